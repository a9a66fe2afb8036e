"""``mlflow models serve`` answers what the network computes; models reach a server, also one that was away."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pytest

from psn_lightning.cli import main
from psn_lightning.data import Digits
from tests.conftest import CONF, QUIET
from tests.services.conftest import _wait_for, free_port

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=4", "--tracking.model=last"]


def test_served_predictions_are_those_of_predict(workdir, client):
    assert main([*FIT, "--tracking.register=digits", "--tracking.alias=champion"]) == 0
    assert main(["predict", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--ckpt_path=last"]) == 0
    with (workdir / "predictions.csv").open(newline="") as file:
        expected = [int(row["predicted"]) for row in csv.DictReader(file)][:10]
    data = Digits()
    data.setup()
    rows = next(iter(data.predict_dataloader()))[0][:10]
    port = free_port()
    programs = Path(sys.executable).parent
    command = [str(programs / "mlflow"), "models", "serve", "-m", "models:/digits@champion"]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{workdir}/mlruns/mlflow.db"}
    with (workdir / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options], stdout=log, stderr=log, start_new_session=True, env=environment
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", process)
        body = json.dumps({"inputs": rows.tolist()}).encode()
        request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            logits = np.array(json.loads(answer.read())["predictions"])
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    assert logits.argmax(axis=1).tolist() == expected


def test_a_model_reaches_a_server(workdir, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert main([*FIT, "--tracking.register=digits"]) == 0
    client = mlflow.MlflowClient(server)
    (model,) = client.search_logged_models([client.get_experiment_by_name("psn_lightning").experiment_id])
    assert model.status == "READY"
    assert {metric.key for metric in model.metrics} == {"test/accuracy", "test/loss"}
    assert len(client.search_model_versions("name = 'digits'")) == 1
    mlflow.set_tracking_uri(server)
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    assert loaded.predict(np.zeros((3, 64), np.float32)).shape == (3, 10)
