"""Seconds per epoch of ``psn-train fit`` with everything on, and of bare PyTorch loops, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from psn_lightning.bench.timing import Row, summarise

_PSN_TRAIN = [sys.executable, "-c", "from psn_lightning.cli import entry_point; entry_point()"]
_CONFIGS = {"FashionMNIST": "fashion_rigl", "ForestCover": "forest_rigl"}
_SPARSITIES = {"FashionMNIST": (0.9, 0.95, 0.98, 0.99), "ForestCover": (0.9,)}
_GROUPS = {"FashionMNIST": [(size, sparsity) for sparsity in (0.9, 0.95) for size in (16, 64)]}
_ROUNDS, _EPOCHS = 2, 4  # the first epoch, which may compile kernels, is left out


def measure_fits(data: str) -> Iterator[Row]:
    """Measure a data set: csr and masked by ``psn-train fit``, bare loops with csr, masked and dense layers, in turn.

    Args:
        data: Class name of the data set.

    Yields:
        Rows with ``data``, ``kind``, ``sparsity`` and ``how``: fit or loop.
    """
    sparsities = _SPARSITIES[data]
    candidates = [("fit", kind, s) for s in sparsities for kind in ("csr", "masked")]
    for size, sparsity in _GROUPS.get(data, []):
        candidates += [("fit", f"{storage}, groups of {size}", sparsity) for storage in ("csr", "groups")]
    candidates += [("loop", "csr", s) for s in sparsities] + [("loop", "masked", 0.9), ("loop", "dense", 0.0)]
    durations: dict[tuple[str, str, float], list[float]] = {candidate: [] for candidate in candidates}
    for _ in range(_ROUNDS):
        for candidate in candidates:
            how, kind, sparsity = candidate
            time_epochs = _time_fit if how == "fit" else _time_loop
            durations[candidate] += time_epochs(data, kind, sparsity)[1:]
    for (how, kind, sparsity), own in durations.items():
        yield summarise(own, part="fit", data=data, how=how, kind=kind, sparsity=sparsity)


def _time_fit(data: str, kind: str, sparsity: float) -> list[float]:
    """Measure the seconds of each epoch: RigL, evaluation, checkpoints, MLflow, progress bar."""
    import mlflow  # takes a second

    storage, _, size = kind.partition(", groups of ")
    options: dict[str, object] = {"config": "pkg:wirings/groups.yaml", "model.topology.size": size} if size else {}
    options |= {"model.storage": storage, "model.sparsity": sparsity, "trainer.max_epochs": _EPOCHS}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    command = [*_PSN_TRAIN, "fit", "--config", _CONFIGS[data], *arguments]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
        (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        return [metric.value for metric in client.get_metric_history(run.info.run_id, "time/epoch_seconds")]


def _time_loop(data: str, kind: str, sparsity: float) -> list[float]:
    """Measure the seconds of each epoch of a bare loop."""
    command = [sys.executable, "-m", "psn_lightning.bench.loops", kind, data, str(sparsity), str(_EPOCHS)]
    seconds: list[float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return seconds
