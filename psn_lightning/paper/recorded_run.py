"""Run of a reproduction, as a line of the record describes it."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ACCURACY = "test/accuracy"
"""Metric that every recorded run has, after every epoch at least."""


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
        if self.evaluated and len(self.evaluated) != len(self.curves[ACCURACY]):
            raise ValueError(f"evaluated must be {len(self.curves[ACCURACY])} numbers, not {len(self.evaluated)}")

    @property
    def epochs(self) -> int:
        """Number of epochs of the run."""
        return round(self.evaluated[-1]) if self.evaluated else len(self.curves[ACCURACY])

    @property
    def accuracies(self) -> dict[float, float]:
        """Test accuracy of each evaluation by the number of epochs done, such as 6.25."""
        values = self.curves[ACCURACY]
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
    return known and math.isfinite(value.get(ACCURACY, math.nan))


def _are_curves(value: Any) -> bool:
    if not isinstance(value, dict) or not value.get(ACCURACY):
        return False
    return all(isinstance(curve, list) and all(map(_is_number, curve)) for curve in value.values())


def _are_epochs(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value)) and sorted(set(value)) == value


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "cell": ("a dict from settings to single values", _is_cell),
    "seed": ("an integer from 0 to 4294967295", lambda value: type(value) is int and 0 <= value < 2**32),
    "metrics": (f"a dict of numbers with a finite {ACCURACY}", _are_metrics),
    "curves": (f"a dict of lists of numbers with {ACCURACY}", _are_curves),
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
