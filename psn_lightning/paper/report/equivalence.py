"""Tests that a method is as accurate as another, up to a margin that was chosen before the runs."""

from __future__ import annotations

import statistics

from psn_lightning.paper.report.contrasts import holm
from psn_lightning.paper.report.runs import Runs, late_accuracy
from psn_lightning.paper.report.tables import LEVEL, NOTHING, Table
from psn_lightning.paper.report.verdicts import difference, interval, number, p_value

MARGIN = 0.3
"""Largest difference that is none, in points of accuracy."""

_KEYS = ("model.sparsity", "method")


def equivalence_table(runs: Runs, title: str, one: str, other: str) -> Table:
    """Compare two methods at every sparsity: is their difference within the margin, or beyond it?

    Differences are paired by seed. Both tests are corrected over the sparsities by Holm's method.

    Args:
        runs: Runs of one data set, whose cells have a sparsity and a method.
        title: Title of the table.
        one: Method.
        other: Method that it is compared with.
    """
    sparsity, method = _KEYS
    found = []
    for value in sorted(runs.values(sparsity)):
        cells = runs.having({sparsity: value})
        contrast = cells.layout(method, late_accuracy, pooled=False).difference(one, other)
        if contrast is not None:
            found.append((value, cells, contrast))
    within = holm([contrast.p_within(MARGIN) for *_, contrast in found])
    beyond = holm([contrast.p_beyond(MARGIN) for *_, contrast in found])
    rows = []
    for (value, cells, contrast), p_within, p_beyond in zip(found, within, beyond, strict=True):
        means = [statistics.fmean(map(late_accuracy, cells.having({method: name}).all)) for name in (one, other)]
        verdict = "equal" if p_within < LEVEL else "different" if p_beyond < LEVEL else "open"
        inner = interval(*contrast.interval(2 * LEVEL)) if contrast.error else NOTHING
        rows.append(
            [
                f"{value:.0%}", *map(number, means), difference(contrast, LEVEL), inner, p_value(p_within),
                p_value(p_beyond), f"**{verdict}**",
            ]
        )  # fmt: skip
    note = (
        "Mean accuracy of the last three epochs in per cent, differences paired by seed. Equal: two one-sided tests "
        f"show a difference within ±{MARGIN:g} points, a margin chosen before the runs; different: a test that it "
        "is beyond it. p-values are corrected over the sparsities by Holm's method."
    )
    columns = ["sparsity", one, other, "difference, 95%", "90%", "p within", "p beyond", "verdict"]
    return Table(title, note, columns, rows)
