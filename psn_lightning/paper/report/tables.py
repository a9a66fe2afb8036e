"""Tables of text, and the table of accuracies by the value of a setting."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psn_lightning.paper.report.runs import Measure, Runs, accuracy
from psn_lightning.paper.report.statistics import Paired, against, estimate, holm, paired
from psn_lightning.paper.report.verdicts import interval, number, p_value

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
    values = runs.values(key)
    own = {value: runs.having({key: value}).by_seed() for value in values}
    pairs = {v: c for v in values if v != baseline and (c := paired(own[v], own.get(baseline, {})))}
    corrected = dict(zip(pairs, holm([c.p_t for c in pairs.values()]), strict=True))
    rows = []
    for value in values:
        found = estimate(list(own[value].values()))
        beside = [NOTHING] * 3
        if value in printed:
            judged = against(list(own[value].values()), printed[value])
            verdict = _name_verdict(judged) if runs.complete() else "subset"
            beside = [number(printed[value]), number(found.mean - printed[value], sign=True), verdict]
        rows.append(
            [
                str(value),
                f"{number(found.mean)} ± {number(found.std)}",
                interval(found.low, found.high) if found.n > 1 else NOTHING,
                str(found.n),
                *beside,
                *_format_comparison(pairs.get(value), corrected.get(value)),
            ]
        )
    short = key.rsplit(".", 1)[-1]
    columns = [short, "accuracy, %", "95%", "n", "paper", "ours − paper", "verdict", f"− {baseline}", "p (t, Holm)"]
    columns += ["p (Wilcoxon)", "d", "p (TOST)", "detectable"]
    return Table(title, "", columns, rows)


def _name_verdict(comparison: Paired | None) -> str:
    """Verdict on the printed accuracy: same, differs or open."""
    if comparison is None:
        return "open"
    return "same" if comparison.equivalent else "differs" if comparison.differ else "open"


def _format_comparison(comparison: Paired | None, corrected: float | None) -> list[str]:
    """Format the comparison with the baseline as six cells.

    Args:
        comparison: Comparison over the seeds, or None.
        corrected: p-value of the t-test after Holm's correction, or None.
    """
    if comparison is None or corrected is None:
        return [NOTHING] * 6
    return [
        f"{number(comparison.difference, sign=True)} {interval(comparison.low, comparison.high)}",
        p_value(corrected),
        p_value(comparison.p_wilcoxon),
        number(comparison.cohens_d),
        p_value(comparison.p_equivalent),
        number(comparison.detectable),
    ]


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
