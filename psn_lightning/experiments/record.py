"""The durable record of reproductions: ``results/runs.jsonl``, one line for each finished run."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from psn_lightning.errors import SettingError
from psn_lightning.experiments.compare import find
from psn_lightning.files import write_all
from psn_lightning.tracking.resume import decisive
from psn_lightning.tracking.store import Store

RECORD = Path("results") / "runs.jsonl"
TAG = "reproduction"
"""Tag of an MLflow run that belongs to a reproduction: its key, see :attr:`RecordedRun.key`."""

_CURVES = ("test/accuracy", "gradient/ratio", "fan_in/ccv/")  # metrics, or beginnings of such, that are kept by epoch
_DIGITS = 6


@dataclass(frozen=True)
class RecordedRun:
    """One run, as the record keeps it."""

    reproduction: str
    data: str
    """Short name of the data set: fashion."""
    cell: dict[str, Any]
    """What distinguishes the run's row and column: ``{"profile": "bell", "model.sparsity": 0.9}``."""
    seed: int
    digest: str
    """Of the configuration, as far as it decides what is computed."""
    dataset: str
    """As it is to be reported, with the number of rows where it is a subset."""
    completeness: str
    """complete or subset."""
    metrics: dict[str, float]
    """Last value of each."""
    curves: dict[str, list[float]]
    """Some of them after every epoch."""
    seconds: float
    """From the run's beginning to its end, other runs beside it."""
    storage: str
    machine: str
    """Operating system, architecture and number of cores."""
    version: str
    """Of this package."""
    commit: str
    date: str
    """When it ended, UTC."""

    @property
    def key(self) -> str:
        """Two runs with this in common are one measurement made twice."""
        return key_of(self.reproduction, self.data, self.cell, self.seed)


def key_of(reproduction: str, data: str, cell: Mapping[str, Any], seed: int) -> str:
    """See :attr:`RecordedRun.key`."""
    return json.dumps([reproduction, data, cell, seed], sort_keys=True)


def read(path: Path = RECORD) -> dict[str, RecordedRun]:
    """All runs of a record by key; of one that was repeated the last.

    A line that was cut short, by a full disk or a power cut, counts as none: its run is run again.

    Raises:
        SettingError: If a line is damaged otherwise.
    """
    runs: dict[str, RecordedRun] = {}
    lines = path.read_text().splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("}"):
            continue
        try:
            run = RecordedRun(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise SettingError(
                f"{path}, line {number} is damaged ({error}); take it out, its run is run again"
            ) from error
        runs[run.key] = run
    return runs


def append(run: RecordedRun, path: Path = RECORD) -> None:
    """Add a line in one write; other processes of this machine may do the same at this moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dataclasses.asdict(run)) + "\n"
    with path.open("ab+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        file.seek(0, os.SEEK_END)
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            line = f"\n{line}"  # the one before was cut short
        write_all(file, line.encode())
        os.fsync(file.fileno())


def recorded(client: MlflowClient, run: Run, reproduction: str, data: str, cell: dict[str, Any]) -> RecordedRun:
    """A finished run of MLflow's as a line of the record."""
    tags, params = run.data.tags, run.data.params
    names = [name for name in run.data.metrics if name.startswith(_CURVES)]
    history = {name: client.get_metric_history(run.info.run_id, name) for name in names}
    text = json.dumps(sorted(decisive(params).items()))
    return RecordedRun(
        reproduction=reproduction,
        data=data,
        cell=cell,
        seed=int(params["seed_everything"]),
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        dataset=tags["dataset.name"],
        completeness=tags["dataset.completeness"],
        metrics={name: _rounded(value) for name, value in sorted(run.data.metrics.items())},
        curves={name: [_rounded(metric.value) for metric in values] for name, values in sorted(history.items())},
        seconds=round((run.info.end_time - run.info.start_time) / 1000, 1),
        storage=tags["storage"],
        machine=tags["machine"],
        version=tags["version.psn_lightning"],
        commit=tags.get("git.commit", ""),
        date=datetime.fromtimestamp(run.info.end_time / 1000, UTC).isoformat(timespec="seconds"),
    )


def from_experiment(uri: str | None, experiment: str) -> list[RecordedRun]:
    """The finished runs of reproductions in an MLflow experiment; of one that was repeated the newest.

    Args:
        uri: MLflow store; None: the default one.
        experiment: Name.

    Raises:
        SettingError: If the store cannot be used, or has no such experiment.
    """
    found = find(uri, experiment, f"tags.{TAG} != '' AND attributes.status = 'FINISHED'")
    client = Store(uri).client
    newest_last = [recorded(client, run, *json.loads(run.data.tags[TAG])[:3]) for run in reversed(found)]
    return list({run.key: run for run in newest_last}.values())


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
