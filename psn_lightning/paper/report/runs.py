"""Selections of recorded runs for tables, figures and claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psn_lightning.paper.record import RecordedRun

Measure = Callable[[RecordedRun], float]


def accuracy(run: RecordedRun) -> float:
    """Test accuracy of a run after the last epoch, in per cent."""
    return 100 * run.metrics["test/accuracy"]


def metric(name: str) -> Measure:
    """Make the function that returns the last value of a metric of a run."""
    return lambda run: run.metrics[name]


class Runs:
    """Recorded runs that can be selected by reproduction, data set and cell.

    Args:
        runs: Runs in any order.
    """

    def __init__(self, runs: Iterable[RecordedRun]) -> None:
        self.all = list(runs)

    def of(self, reproduction: str, data: str | None = None) -> Runs:
        """Select the runs of a reproduction, and of a data set unless it is None."""
        return Runs(run for run in self.all if run.reproduction == reproduction and data in (None, run.data))

    def having(self, cell: Mapping[str, Any]) -> Runs:
        """Select the runs whose cell has these values."""
        return Runs(run for run in self.all if cell.items() <= run.cell.items())

    def values(self, key: str) -> list[Any]:
        """List the values of a setting of the cells, in order of appearance."""
        return list(dict.fromkeys(run.cell[key] for run in self.all))

    def by_seed(self, measure: Measure = accuracy) -> dict[int, float]:
        """Measure each run; values by seed, in ascending order."""
        return {run.seed: measure(run) for run in sorted(self.all, key=lambda run: run.seed)}

    def data(self) -> list[str]:
        """List the short names of the data sets, in order of appearance."""
        return list(dict.fromkeys(run.data for run in self.all))

    def dataset(self) -> str:
        """Titles of the data sets, such as ``Covertype 177k subset``."""
        return ", ".join(dict.fromkeys(run.dataset for run in self.all))

    def complete(self) -> bool:
        """Return whether all runs are on complete data sets."""
        return all(run.completeness == "complete" for run in self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __bool__(self) -> bool:
        return bool(self.all)
