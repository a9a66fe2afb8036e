"""The durable record of reproductions: ``results/runs.jsonl``, one line for each finished run."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from psn_lightning.checkpoints.origin import decisive
from psn_lightning.commands.compare import find
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import write_all
from psn_lightning.tracking.store import Store

RECORD = Path("results") / "runs.jsonl"
TAG = "reproduction"
"""Tag of an MLflow run that belongs to a reproduction: its key, see :attr:`RecordedRun.key`."""

_ACCURACY = "test/accuracy"
_CURVES = (_ACCURACY, "gradient/ratio", "fan_in/ccv/")  # metrics, or beginnings of such, that are kept by epoch
_DIGITS = 6


@dataclass(frozen=True)
class RecordedRun:
    """One run, as the record keeps it.

    Raises:
        ValueError: If something of it is of another kind, or what every report asks for is missing.
    """

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

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            what, is_sound = _SOUND.get(name, ("text", lambda value: isinstance(value, str)))
            if not is_sound(value):
                raise ValueError(f"{name} is not {what}")
        json.dumps(vars(self), ensure_ascii=False).encode()  # a text can have what no file can

    @property
    def key(self) -> str:
        """Two runs with this in common are one measurement made twice."""
        return key_of(self.reproduction, self.data, self.cell, self.seed)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _is_cell(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or isinstance(v, str | int | float) for v in value.values())


def _are_metrics(value: Any) -> bool:
    known = isinstance(value, dict) and all(map(_is_number, value.values()))
    return known and math.isfinite(value.get(_ACCURACY, math.nan))


def _are_curves(value: Any) -> bool:
    if not isinstance(value, dict) or not value.get(_ACCURACY):
        return False
    return all(isinstance(curve, list) and all(map(_is_number, curve)) for curve in value.values())


_SOUND: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cell": ("settings with one value each", _is_cell),
    "seed": ("a whole number from 0 to 4294967295", lambda value: type(value) is int and 0 <= value < 2**32),
    "metrics": (f"numbers with a finite {_ACCURACY} among them", _are_metrics),
    "curves": (f"lists of numbers with {_ACCURACY} among them", _are_curves),
    "seconds": ("a number from 0 on", lambda value: _is_number(value) and 0 <= value < math.inf),
}
"""What the fields of a run are that are no text: in words, and how it is found out."""


def key_of(reproduction: str, data: str, cell: Mapping[str, Any], seed: int) -> str:
    """See :attr:`RecordedRun.key`."""
    return json.dumps([reproduction, data, cell, seed], sort_keys=True)


def read(path: Path = RECORD) -> dict[str, RecordedRun]:
    """All runs of a record by key; of one that was repeated the last.

    A line that was cut short, by a full disk or a power cut, counts as none: its run is run again.

    Raises:
        SettingError: If it is no record, or a line is damaged otherwise.
    """
    runs: dict[str, RecordedRun] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            run = RecordedRun(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and line[:1] in {"", "{", "\0"}:
                warnings.warn(
                    f"{path}, line {number} was cut short ({error}): its run counts as not done", stacklevel=2
                )
                continue
            raise SettingError(
                f"{path}, line {number} is damaged ({in_one_line(error)}); take it out, its run is run again"
            ) from error
        runs[run.key] = run
    return runs


def _lines(path: Path) -> list[str]:
    try:
        if path.is_dir():
            raise SettingError(f"{path} is a folder: name the record in it, as {RECORD} is one")
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read as a record ({in_one_line(error)}): name another file") from error


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
        SettingError: If the store cannot be used, has no such experiment, or a run there is none of a reproduction.
    """
    found = find(uri, experiment, f"tags.{TAG} != '' AND attributes.status = 'FINISHED'")
    client = Store(uri).client
    runs = {}
    for run in reversed(found):  # the newest last
        try:
            one = recorded(client, run, *json.loads(run.data.tags[TAG])[:3])
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise SettingError(
                f"run {run.info.run_id} of {experiment} is tagged {TAG}, but is none ({in_one_line(error)}): "
                "delete the tag"
            ) from error
        runs[one.key] = one
    return list(runs.values())


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
