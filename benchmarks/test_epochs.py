"""Seconds per epoch of ``psn-train fit`` with all callbacks, compared with bare PyTorch loops."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import pytest

from benchmarks.conftest import Durations

ROOT = Path(__file__).parent.parent
CONFIGS = {"FashionMNIST": "conf/fashion_rigl.yaml", "ForestCover": "conf/forest_rigl.yaml"}
SPARSITIES = {"FashionMNIST": (0.9, 0.95, 0.98), "ForestCover": (0.9,)}
ROUNDS, EPOCHS = 2, 3  # the first epoch, which compiles the kernels, is left out
KINDS = {
    data: ["bare dense", "bare masked", *(f"{kind} {s:g}" for s in sparsities for kind in ("csr", "masked"))]
    for data, sparsities in SPARSITIES.items()
}


def fitted(data: str, storage: str, sparsity: float) -> list[float]:
    """Measure the seconds of each epoch of ``psn-train fit``: RigL, evaluation, checkpoints, MLflow, progress bar."""
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("psn-train"), "fit", "--config", ROOT / CONFIGS[data]]
        options = {"model.storage": storage, "model.sparsity": sparsity, "trainer.max_epochs": EPOCHS}
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        subprocess.run([*command, *arguments], cwd=folder, check=True, capture_output=True)
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
        (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        return [metric.value for metric in client.get_metric_history(run.info.run_id, "time/epoch_seconds")]


def looped(data: str, kind: str) -> list[float]:
    """Measure the seconds of each epoch of a bare loop."""
    command = [sys.executable, "-m", "benchmarks.loops", kind, data, str(EPOCHS)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [float(word) for word in output.split()]


@functools.cache
def measured(data: str) -> Durations:
    """Measure all candidates in turn, each in a separate process."""
    durations: Durations = {kind: [] for kind in KINDS[data]}
    for _ in range(ROUNDS):
        for kind in KINDS[data]:
            first, second = kind.split()
            seconds = looped(data, second) if first == "bare" else fitted(data, first, float(second))
            durations[kind] += seconds[1:]
    return durations


@pytest.mark.parametrize(("data", "kind"), [(data, kind) for data in KINDS for kind in KINDS[data]])
@pytest.mark.timeout(3600)
def test_epoch(report, data: str, kind: str) -> None:
    report(measured(data)[kind], part="epoch", data=data, kind=kind)
