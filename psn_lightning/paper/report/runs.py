"""The recorded runs as the tables and claims ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psn_lightning.paper.record import RecordedRun

Measure = Callable[[RecordedRun], float]


def accuracy(run: RecordedRun) -> float:
    """Test accuracy of the last epoch, per cent."""
    return 100 * run.metrics["test/accuracy"]


def metric(name: str) -> Measure:
    """The last value of a metric."""
    return lambda run: run.metrics[name]


class Runs:
    """Recorded runs, to be asked for by what distinguishes them.

    Args:
        runs: In any order.
    """

    def __init__(self, runs: Iterable[RecordedRun]) -> None:
        self.all = list(runs)

    def of(self, reproduction: str, data: str | None = None) -> Runs:
        """Those of a reproduction, of one data set or all."""
        return Runs(run for run in self.all if run.reproduction == reproduction and data in (None, run.data))

    def having(self, cell: Mapping[str, Any]) -> Runs:
        """Those of the cells that have these values."""
        return Runs(run for run in self.all if cell.items() <= run.cell.items())

    def values(self, key: str) -> list[Any]:
        """The values that the cells have for a setting, in order of appearance."""
        return list(dict.fromkeys(run.cell[key] for run in self.all))

    def by_seed(self, measure: Measure = accuracy) -> dict[int, float]:
        """One figure of each run, by seed."""
        return {run.seed: measure(run) for run in sorted(self.all, key=lambda run: run.seed)}

    def data(self) -> list[str]:
        """Short names of the data sets, in order of appearance."""
        return list(dict.fromkeys(run.data for run in self.all))

    def dataset(self) -> str:
        """How the data are to be named: ``Covertype 177k subset``."""
        return ", ".join(dict.fromkeys(run.dataset for run in self.all))

    def complete(self) -> bool:
        """Whether all have seen the data set that the paper has."""
        return all(run.completeness == "complete" for run in self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __bool__(self) -> bool:
        return bool(self.all)
