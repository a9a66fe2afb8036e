-- MLflow's database; Optuna's is the server's first (POSTGRES_DB). The two programs must not share one.
CREATE DATABASE mlflow OWNER psn;
