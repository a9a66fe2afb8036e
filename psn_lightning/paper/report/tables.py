"""Tables of text, and the one of accuracies that most of them are."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psn_lightning.paper.report.runs import Measure, Runs, accuracy
from psn_lightning.paper.report.statistics import Paired, against, estimate, holm, paired
from psn_lightning.paper.report.verdicts import interval, number, p_value

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def accuracies(title: str, runs: Runs, key: str, baseline: str, printed: Mapping[str, float]) -> Table:
    """Accuracy by the value of a setting, against the paper and against one of the values.

    Args:
        title: Of the table.
        runs: Of one reproduction and data set.
        key: The setting.
        baseline: The value that the others are compared with.
        printed: The paper's figures by value.
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
            verdict = _verdict(judged) if runs.complete() else "subset"
            beside = [number(printed[value]), number(found.mean - printed[value], sign=True), verdict]
        rows.append(
            [
                str(value),
                f"{number(found.mean)} ± {number(found.std)}",
                interval(found.low, found.high) if found.n > 1 else NOTHING,
                str(found.n),
                *beside,
                *_pair(pairs.get(value), corrected.get(value)),
            ]
        )
    short = key.rsplit(".", 1)[-1]
    columns = [short, "accuracy, %", "95%", "n", "paper", "ours − paper", "verdict", f"− {baseline}", "p (t, Holm)"]
    columns += ["p (Wilcoxon)", "d", "p (TOST)", "detectable"]
    return Table(title, "", columns, rows)


def _verdict(comparison: Paired | None) -> str:
    if comparison is None:
        return "open"
    return "same" if comparison.equivalent else "differs" if comparison.differ else "open"


def _pair(comparison: Paired | None, corrected: float | None) -> list[str]:
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
    """``97.68 ± 0.21 (5)``: mean, standard deviation and number of seeds."""
    values = list(runs.by_seed(measure).values())
    if not values:
        return NOTHING
    spread = f" ± {number(statistics.stdev(values), digits)}" if len(values) > 1 else ""
    return f"{number(statistics.fmean(values), digits)}{spread} ({len(values)})"
