"""Tables of text, and the table of accuracies by the value of a setting."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psn_lightning.paper.report.contrasts import holm
from psn_lightning.paper.report.runs import ESTIMATORS, Measure, Runs, accuracy
from psn_lightning.paper.report.verdicts import difference, interval, number, p_value

LEVEL = 0.05
"""Level of the tests, and 1 - confidence of the intervals, in tables and figures."""

NOTHING = "–"
"""Text of an empty cell."""


@dataclass(frozen=True)
class Table:
    """Table of text."""

    title: str
    """Title of the table."""
    note: str
    """Note between title and table; empty for none."""
    columns: Sequence[str]
    """Titles of the columns."""
    rows: Sequence[Sequence[str]]
    """Cells, ``len(columns)`` in each row."""


def accuracies(title: str, runs: Runs, key: str, baseline: str, printed: Mapping[str, float]) -> Table:
    """Make a table of the accuracy by the value of a setting, compared with the paper and with a baseline.

    Args:
        title: Title of the table.
        runs: Runs of one reproduction and data set.
        key: Setting, a key of the cells.
        baseline: Value that the others are compared with.
        printed: Accuracy in the paper in per cent, by value.
    """
    layout = runs.layout(key)
    contrasts = layout.against(baseline) if baseline in layout.cells else {}
    corrected = dict(zip(contrasts, holm([c.p_not_zero() for c in contrasts.values()]), strict=True))
    rows = []
    for value in layout.cells:
        cell = Runs(run for run in runs.all if str(run.cell[key]) == value)
        mean = layout.mean(value)
        own = statistics.fmean(cell.by_seed().values())
        contrast = contrasts.get(value)
        rows.append(
            [
                value,
                mean_of(cell),
                NOTHING if mean is None else interval(*mean.interval(LEVEL)),
                *(mean_of(cell, ESTIMATORS[name]) for name in ("last epoch", "best epoch")),
                number(printed[value]) if value in printed else NOTHING,
                number(own - printed[value], sign=True) if value in printed else NOTHING,
                NOTHING if contrast is None else difference(contrast, LEVEL),
                NOTHING if contrast is None else p_value(corrected[value]),
                NOTHING if contrast is None else number(contrast.smallest_margin(LEVEL)),
            ]
        )
    short = key.rsplit(".", 1)[-1]
    columns = [short, "accuracy, %", "95%", "last epoch", "best epoch", "paper", "ours − paper", f"− {baseline}"]
    return Table(title, "", [*columns, "p (Holm)", "equal within"], rows)


def mean_of(runs: Runs, measure: Measure = accuracy, digits: int = 2) -> str:
    """Format mean, standard deviation and number of seeds: ``97.68 ± 0.21 (5)``.

    Args:
        runs: Runs of one cell.
        measure: Measure of each run; by default the test accuracy in per cent.
        digits: Number of decimals.
    """
    values = list(runs.by_seed(measure).values())
    if not values:
        return NOTHING
    spread = f" ± {number(statistics.stdev(values), digits)}" if len(values) > 1 else ""
    return f"{number(statistics.fmean(values), digits)}{spread} ({len(values)})"
