"""Studies of many runs: Optuna searches and grids, in which one trial is one process that runs ``psn-train fit``."""
