"""Selections of recorded runs for tables, figures and claims."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.layout import Layout
from psn_lightning.paper.tail import count_tail_epochs

Measure = Callable[[RecordedRun], float]


def accuracy(run: RecordedRun) -> float:
    """Test accuracy of a run in per cent: mean over the evaluations of the tail, the plan's estimator."""
    return _mean_after(run, run.epochs - count_tail_epochs(run.epochs))


def half_accuracy(run: RecordedRun) -> float:
    """Test accuracy of a run in per cent, mean over the evaluations of the last half of the epochs."""
    return _mean_after(run, run.epochs // 2)


def late_accuracy(run: RecordedRun) -> float:
    """Test accuracy of a run in per cent, mean over the evaluations of the last three epochs."""
    return _mean_after(run, run.epochs - 3)


def last_accuracy(run: RecordedRun) -> float:
    """Test accuracy of a run after the last epoch, in per cent."""
    return 100 * run.metrics["test/accuracy"]


def best_accuracy(run: RecordedRun) -> float:
    """Highest test accuracy of a run after an epoch, in per cent; the test set chooses, so it is too high."""
    return max(curve(run))


ESTIMATORS: dict[str, Measure] = {
    "last third": accuracy,
    "last half": half_accuracy,
    "last epoch": last_accuracy,
    "best epoch": best_accuracy,
}
"""Measures of a run's accuracy by name; the first one decides."""


def curve(run: RecordedRun) -> list[float]:
    """Test accuracy of a run after each epoch, in per cent."""
    return [100 * value for epoch, value in run.accuracies.items() if epoch == round(epoch)]


def _mean_after(run: RecordedRun, epoch: int) -> float:
    return 100 * statistics.fmean(value for done, value in run.accuracies.items() if done > epoch)


def metric(name: str) -> Measure:
    """Make the function that returns the last value of a metric of a run."""
    return lambda run: run.metrics[name]


def name_cell(cell: Mapping[str, Any]) -> str:
    """Name a cell by all its settings."""
    return json.dumps(cell, sort_keys=True)


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
        """Measure each run; values by seed, in ascending order.

        Raises:
            ValueError: If two runs have the same seed: they belong to different cells.
        """
        values = {run.seed: measure(run) for run in sorted(self.all, key=lambda run: run.seed)}
        if len(values) < len(self.all):
            raise ValueError(f"{len(self.all)} runs of {self.data()} have {len(values)} seeds: select a cell first")
        return values

    def layout(self, key: str | None = None, measure: Measure = accuracy, pooled: bool = True) -> Layout:
        """Fit the additive model cell + seed.

        Args:
            key: Setting that names the cells; by default each combination of settings is a cell, named by its JSON.
            measure: Measure of each run.
            pooled: Whether the noise is pooled over all cells.

        Raises:
            ValueError: If two runs have the same cell and seed.
        """
        values = {}
        for run in self.all:
            place = (name_cell(run.cell) if key is None else str(run.cell[key]), run.seed)
            if place in values:
                raise ValueError(f"two runs have {key or 'the cell'} {place[0]} and seed {run.seed}")
            values[place] = measure(run)
        return Layout(values, pooled)

    def distinct(self) -> Runs:
        """Select one run of each computation: reproductions share cells, whose runs are equal bit for bit."""
        return Runs({json.dumps([run.data, run.seed, run.curves], sort_keys=True): run for run in self.all}.values())

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
