"""Record of the runs of reproductions: ``results/runs.jsonl``, one line for each finished run."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import reprlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from psn_lightning.checkpoints.differences import decisive
from psn_lightning.commands.compare import find
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import write_all
from psn_lightning.tracking.store import Store

RECORD = Path("results") / "runs.jsonl"
"""Default file of the record."""

TAG = "reproduction"
"""Tag of the MLflow runs of reproductions; the value is the key of the run, see :attr:`RecordedRun.key`."""

PLAN_TAG = "plan"
"""Tag of the MLflow runs of reproductions with the digest of the analysis plan."""

_ACCURACY = "test/accuracy"
_CURVES = (_ACCURACY, "gradient/ratio", "fan_in/ccv/")  # prefixes of the metrics that are recorded for every epoch
_DIGITS = 6  # significant digits of recorded values


@dataclass(frozen=True)
class RecordedRun:
    """A run of a reproduction, one line of the record.

    Raises:
        ValueError: If a field has the wrong type or range, or the test accuracy is missing.
    """

    reproduction: str
    """Name of the reproduction."""
    data: str
    """Short name of the data set, such as ``fashion``."""
    cell: dict[str, Any]
    """Settings of the table cell that the run belongs to, such as ``{"profile": "bell", "model.sparsity": 0.9}``."""
    seed: int
    """Seed of the run."""
    digest: str
    """Digest of the settings that the computation depends on."""
    dataset: str
    """Title of the data set in the report, with the number of rows if it is a subset."""
    completeness: str
    """``complete`` or ``subset``."""
    metrics: dict[str, float]
    """Last value of each metric."""
    curves: dict[str, list[float]]
    """Values of selected metrics, in the order of time."""
    seconds: float
    """Duration of the run; other runs may have shared the machine."""
    storage: str
    """Storage of the weights: csr, masked, or dense."""
    machine: str
    """Operating system, architecture and number of cores."""
    version: str
    """Version of psn_lightning."""
    commit: str
    """Git commit; empty if it is not known."""
    date: str
    """End of the run, ISO 8601 in UTC."""
    plan: str = ""
    """Digest of the analysis plan that the run was made under; empty before there was one."""
    evaluated: list[float] = field(default_factory=list)
    """Number of epochs done at each value of the test accuracy's curve; empty: one value after every epoch."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            expected, is_valid = _FIELDS.get(name, ("a string", lambda value: isinstance(value, str)))
            if not is_valid(value):
                raise ValueError(f"{name} must be {expected}, not {reprlib.repr(value)}")
        json.dumps(vars(self), ensure_ascii=False).encode()  # a lone surrogate cannot be written to a file
        if self.evaluated and len(self.evaluated) != len(self.curves[_ACCURACY]):
            raise ValueError(f"evaluated must be {len(self.curves[_ACCURACY])} numbers, not {len(self.evaluated)}")

    @property
    def epochs(self) -> int:
        """Number of epochs of the run."""
        return round(self.evaluated[-1]) if self.evaluated else len(self.curves[_ACCURACY])

    @property
    def accuracies(self) -> dict[float, float]:
        """Test accuracy of each evaluation by the number of epochs done, such as 6.25."""
        values = self.curves[_ACCURACY]
        return dict(zip(self.evaluated or map(float, range(1, len(values) + 1)), values, strict=True))

    @property
    def key(self) -> str:
        """Key of the measurement; runs with equal keys are repetitions of one measurement."""
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


def _are_epochs(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value)) and sorted(set(value)) == value


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cell": ("a dict from settings to single values", _is_cell),
    "seed": ("an integer from 0 to 4294967295", lambda value: type(value) is int and 0 <= value < 2**32),
    "metrics": (f"a dict of numbers with a finite {_ACCURACY}", _are_metrics),
    "curves": (f"a dict of lists of numbers with {_ACCURACY}", _are_curves),
    "evaluated": ("a list of increasing numbers", _are_epochs),
    "seconds": ("a finite number of at least 0", lambda value: _is_number(value) and 0 <= value < math.inf),
}
"""Expected value, in words, and its check, for the fields of a run that are not strings."""


def key_of(reproduction: str, data: str, cell: Mapping[str, Any], seed: int) -> str:
    """Make the key of a measurement, see :attr:`RecordedRun.key`.

    Args:
        reproduction: Name of the reproduction.
        data: Short name of the data set.
        cell: Settings of the table cell, in any order.
        seed: Seed of the run.
    """
    return json.dumps([reproduction, data, cell, seed], sort_keys=True)


def read(path: Path = RECORD) -> dict[str, RecordedRun]:
    """Read a record; of repeated runs, the last one counts.

    A line that was cut short, by a full disk or a power cut, is skipped with a warning, so that its run is repeated.

    Args:
        path: File of the record; a missing file is an empty record.

    Returns:
        Runs by key.

    Raises:
        SettingError: If the file is not a record, or a line is damaged in another way.
    """
    runs: dict[str, RecordedRun] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        try:
            run = RecordedRun(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and line[:1] in {"", "{", "\0"}:
                warnings.warn(
                    f"{path}, line {number} was cut short ({error}) and is skipped: its run counts as not done",
                    stacklevel=2,
                )
                continue
            raise SettingError(
                f"{path}, line {number} is damaged ({in_one_line(error)}): delete the line, and psn-train "
                "reproduce repeats the run"
            ) from error
        runs[run.key] = run
    return runs


def _read_lines(path: Path) -> list[str]:
    """Read the lines of a record.

    Raises:
        SettingError: If the path is a folder, or the file cannot be read as text.
    """
    try:
        if path.is_dir():
            raise SettingError(f"{path} is a folder, not a record: give a file, such as {RECORD}")
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read as a record ({in_one_line(error)}): give another file") from error


def append(run: RecordedRun, path: Path = RECORD) -> None:
    """Append a run to a record, in one write and under a lock: other processes may append at the same time.

    Args:
        run: Run to append.
        path: File of the record; created if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dataclasses.asdict(run)) + "\n"
    with path.open("ab+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        file.seek(0, os.SEEK_END)
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            line = f"\n{line}"  # the previous line was cut short
        write_all(file, line.encode())
        os.fsync(file.fileno())


def recorded(
    client: MlflowClient, run: Run, reproduction: str, data: str, cell: dict[str, Any], plan: str = ""
) -> RecordedRun:
    """Convert a finished MLflow run to a line of the record.

    Args:
        client: Client of the store that has the run.
        run: Finished MLflow run.
        reproduction: Name of the reproduction.
        data: Short name of the data set.
        cell: Settings of the table cell.
        plan: Digest of the analysis plan.

    Raises:
        ValueError, LookupError: If the run lacks a param, a tag or the test accuracy.
    """
    tags, params = run.data.tags, run.data.params
    names = [name for name in run.data.metrics if name.startswith(_CURVES)]
    history = {name: client.get_metric_history(run.info.run_id, name) for name in names}
    text = json.dumps(sorted(decisive(params).items()))
    steps = [metric.step for metric in history[_ACCURACY]]
    epochs = int(params["trainer.max_epochs"])
    evaluated = [_round((step + 1) / (steps[-1] + 1) * epochs) for step in steps] if len(steps) > epochs else []
    return RecordedRun(
        reproduction=reproduction,
        data=data,
        cell=cell,
        seed=int(params["seed_everything"]),
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        dataset=tags["dataset.name"],
        completeness=tags["dataset.completeness"],
        metrics={name: _round(value) for name, value in sorted(run.data.metrics.items())},
        curves={name: [_round(metric.value) for metric in values] for name, values in sorted(history.items())},
        seconds=round((run.info.end_time - run.info.start_time) / 1000, 1),
        storage=tags["storage"],
        machine=tags["machine"],
        version=tags["version.psn_lightning"],
        commit=tags.get("git.commit", ""),
        date=datetime.fromtimestamp(run.info.end_time / 1000, UTC).isoformat(timespec="seconds"),
        plan=plan,
        evaluated=evaluated,
    )


def from_experiment(uri: str | None, experiment: str) -> list[RecordedRun]:
    """Read the finished runs of reproductions from an MLflow experiment; of repeated runs, the newest one counts.

    Args:
        uri: MLflow store; the default store if None.
        experiment: Name of the experiment.

    Raises:
        SettingError: If the store cannot be used, has no such experiment, or a run has the tag of reproductions but
            not the params, tags and metrics of one.
    """
    found = find(uri, experiment, f"tags.{TAG} != '' AND attributes.status = 'FINISHED'")
    client = Store(uri).client
    runs = {}
    for run in reversed(found):  # oldest first: newer runs replace older ones
        try:
            reproduction, data, cell, *_ = json.loads(run.data.tags[TAG])
            one = recorded(client, run, reproduction, data, cell, run.data.tags.get(PLAN_TAG, ""))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise SettingError(
                f"run {run.info.run_id} of experiment {experiment} has the tag {TAG} but is not a run of a "
                f"reproduction ({in_one_line(error)}): delete the tag"
            ) from error
        runs[one.key] = one
    return list(runs.values())


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
