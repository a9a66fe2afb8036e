"""Studies of many runs: Optuna searches and grids, one process per trial."""
