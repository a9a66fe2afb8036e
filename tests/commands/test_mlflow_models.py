"""Every fit leaves its network in MLflow, or says why not."""

import json
import subprocess
import sys

import mlflow
import numpy as np
import pytest
import torch
from torch import nn

from psn_lightning import sparsify
from psn_lightning.cli import main
from psn_lightning.commands.mlflow_models import save_model
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology
from tests.conftest import CONF, QUIET, only_run

FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=3"]


def load_alone(model_id, workdir, rows):
    """Logits by a process that cannot import this package."""
    code = f"""
import json, sys
sys.modules["psn_lightning"] = None
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///{workdir}/mlruns/mlflow.db")
rows = np.array(json.load(sys.stdin), np.float32)
print(json.dumps(mlflow.pyfunc.load_model("models:/{model_id}").predict(rows).tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(rows), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def test_the_best_network_loads_without_this_package(client, workdir):
    assert main([*FIT, "--tracking.model=best", "--tracking.register=digits"]) == 0
    run = only_run(client)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert {metric.key for metric in model.metrics} == {"test/accuracy", "test/loss"}
    (version,) = client.search_model_versions("name = 'digits'")
    assert version.source == model.artifact_location
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "Digits"
    data = Digits(batch_size=64)
    data.setup()
    x, _ = next(iter(data.test_dataloader()))
    (path,) = (workdir / "mlruns").glob("*/*/checkpoints/best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    network = SparseMLP([64, 256, 256, 10], Topology(Bernoulli(), sparsity=0.9))
    network.load_state_dict({k.removeprefix("network."): v for k, v in checkpoint["state_dict"].items()})
    with torch.no_grad():
        expected = network(x).numpy()
    np.testing.assert_allclose(load_alone(model.model_id, workdir, x.tolist()), expected, atol=1e-4)


def test_none_leaves_no_model(client):
    assert main([*FIT, "--tracking.model=none"]) == 0
    assert not client.search_logged_models([only_run(client).info.experiment_id])


def test_a_network_that_cannot_be_exported_costs_a_warning_only(client, monkeypatch):
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match=r"no MLflow model.*tracking\.model none"):
        assert main([*FIT, "--tracking.model=last"]) == 0
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert not client.search_logged_models([run.info.experiment_id])


def test_a_store_that_cannot_take_the_model_costs_a_warning_only(client, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", fail)
    with pytest.warns(UserWarning, match=r"no MLflow model.*No space left"):
        assert main([*FIT, "--tracking.model=last"]) == 0
    assert only_run(client).info.status == "FINISHED"


def test_any_module_of_one_tensor(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))
    sparsify(model, 0.8)
    x = torch.randn(4, 1, 8, 8)
    save_model(model, [x], tmp_path / "m")
    found = mlflow.pytorch.load_model(str(tmp_path / "m"))(x[:3])
    torch.testing.assert_close(found, model.eval()(x[:3]), rtol=1e-5, atol=1e-6)
    signature = mlflow.models.Model.load(str(tmp_path / "m")).signature
    assert [spec.shape for spec in (*signature.inputs.inputs, *signature.outputs.inputs)] == [(-1, 1, 8, 8), (-1, 5)]


@pytest.mark.parametrize(("module", "n"), [(nn.Bilinear(3, 3, 2), 2), (nn.LSTM(3, 4, batch_first=True), 1)])
def test_other_modules_are_refused(module, n, tmp_path):
    with pytest.raises(SettingError, match="one tensor"):
        save_model(module, [torch.randn(2, 5, 3)] * n, tmp_path / "m")
