"""Many runs: studies and grids (Optuna), and tables of what came out (MLflow)."""
