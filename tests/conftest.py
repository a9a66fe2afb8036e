"""Real parts in scratch places: every test has a folder and an MLflow store of its own."""

import os
import shutil
from pathlib import Path

import mlflow
import pytest
import torch
import torch.distributed as dist
from hypothesis import settings

from psn_lightning.cli import main
from psn_lightning.data import DATASETS
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology
from tests.helpers.layers import random_linear
from tests.helpers.models import ACCELERATOR

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"

settings.register_profile("psn", max_examples=40, deadline=None)  # a machine that does other things is no defect
settings.load_profile("psn")


@pytest.fixture(autouse=True)
def _csr_computes_on_the_cpu(request):
    if ACCELERATOR != "cpu" and "csr" in request.node.name:
        pytest.skip(f"storage csr, and the accelerator is {ACCELERATOR}")


@pytest.fixture(autouse=True)
def _no_process_group_is_left():
    """End the process group that Lightning leaves behind after a fit with ddp: another test has its own, or none."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="session", autouse=True)
def _real_data():
    shared = ROOT.parent / "shared" / "data"
    if "PSN_DATA_DIR" not in os.environ and shared.is_dir():
        os.environ["PSN_DATA_DIR"] = str(shared)
    elif "PSN_DATA_DIR" in os.environ:
        os.environ["PSN_DATA_DIR"] = str(Path(os.environ["PSN_DATA_DIR"]).resolve())


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory):
    """An MLflow database with its tables made; copied, because making them takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workdir(tmp_path, monkeypatch, _empty_store):
    """An empty working directory whose default store is ready."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(_empty_store, tmp_path / "mlruns" / "mlflow.db")
    return tmp_path


@pytest.fixture
def client(workdir):
    return mlflow.MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db")


@pytest.fixture
def fit(client):
    """Run ``psn-train fit`` on the quickstart's digits and return the MLflow run."""

    def run_fit(*arguments, config="quickstart"):
        assert main(["fit", "--config", str(CONF / f"{config}.yaml"), *QUIET, *arguments]) == 0
        return only_run(client)

    return run_fit


QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--tracking.model=none"]
"""Settings of nearly all fits: a model in MLflow takes seconds, and is tested where it is made."""


def only_run(client):
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 1
    return runs[0]


def require(dataset):
    """Skip where a real data set is not on this machine."""
    if DATASETS[dataset](download=False).locate() is None:
        pytest.skip(f"{dataset} is not on this machine; set PSN_DATA_DIR")


@pytest.fixture(scope="session")
def layer():
    """Make a masked Linear with random connections: its module, and the view of its weight."""
    return random_linear


@pytest.fixture
def network():
    """A small network with an unstructured topology."""
    return SparseMLP([12, 16, 14, 3], Topology(Bernoulli(), sparsity=0.6), seed=1)


@pytest.fixture(autouse=True)
def _torch_seed():
    torch.manual_seed(0)
