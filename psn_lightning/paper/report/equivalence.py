"""Tests that one choice is as accurate as another, up to a margin that was chosen before the runs."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from psn_lightning.paper.report.contrasts import Contrast, holm
from psn_lightning.paper.report.runs import Runs, late_accuracy
from psn_lightning.paper.report.tables import LEVEL, NOTHING, Table
from psn_lightning.paper.report.verdicts import difference, interval, number, p_value

MARGIN = 0.3
"""Largest difference that is none, in points of accuracy."""


class _Comparison(NamedTuple):
    """A choice beside the other one, in one of the rows of a table."""

    labels: list[Any]
    value: Any
    accuracies: list[float]
    contrast: Contrast


def equivalence_table(runs: Runs, title: str, key: str, other: Any, labels: Sequence[str]) -> Table:
    """Compare every value of a setting with one of them: is their difference within the margin, or beyond it?

    Differences are paired by seed. Both tests are corrected over the table by Holm's method.

    Args:
        runs: Runs of one data set.
        title: Title of the table.
        key: Setting whose values are compared.
        other: Value that the others are compared with.
        labels: Settings that are the same on both sides of a comparison.
    """
    found = list(_compare(runs, key, other, labels))
    within = holm([one.contrast.p_within(MARGIN) for one in found])
    beyond = holm([one.contrast.p_beyond(MARGIN) for one in found])
    rows = []
    for one, p_within, p_beyond in zip(found, within, beyond, strict=True):
        verdict = "equal" if p_within < LEVEL else "different" if p_beyond < LEVEL else "open"
        inner = interval(*one.contrast.interval(2 * LEVEL)) if one.contrast.error else NOTHING
        rows.append(
            [
                *(f"{label:.0%}" if isinstance(label, float) else str(label) for label in one.labels),
                str(one.value),
                *map(number, one.accuracies),
                difference(one.contrast, LEVEL),
                inner,
                p_value(p_within),
                p_value(p_beyond),
                f"**{verdict}**",
            ]
        )
    note = (
        "Mean accuracy of the last three epochs in per cent, differences paired by seed. Equal: two one-sided tests "
        f"show a difference within ±{MARGIN:g} points, a margin chosen before the runs; different: a test that it "
        "is beyond it. p-values are corrected over the table by Holm's method."
    )
    names = [name.rsplit(".")[-1] for name in (*labels, key)]
    columns = [*names, "accuracy", f"{other}", "difference, 95%", "90%", "p within", "p beyond", "verdict"]
    return Table(title, note, columns, rows)


def _compare(runs: Runs, key: str, other: Any, labels: Sequence[str]) -> Iterator[_Comparison]:
    """Compare where there are two pairs at least."""
    for place in itertools.product(*(_list_values(runs, label) for label in labels)):
        own = runs.having(dict(zip(labels, place, strict=True)))
        layout = own.layout(key, late_accuracy, pooled=False) if own else None
        for value in _list_values(own, key):
            contrast = None if layout is None or value == other else layout.difference(str(value), str(other))
            if contrast is not None:
                sides = [own.having({key: side}).all for side in (value, other)]
                accuracies = [statistics.fmean(map(late_accuracy, side)) for side in sides]
                yield _Comparison(list(place), value, accuracies, contrast)


def _list_values(runs: Runs, key: str) -> list[Any]:
    """List the values of a setting: numbers ascending, others in order of appearance."""
    values = runs.values(key)
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values
