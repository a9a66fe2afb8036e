"""A claim of the paper beside what was measured, and the rules by which it is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from psn_lightning.paper.report.statistics import LEVEL, Paired, holm

MINUS = "−"


class Verdict(StrEnum):
    """What was measured, against the claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    OPEN = "not decided with this budget"


@dataclass(frozen=True)
class Claim:
    """One line of the summary."""

    title: str
    """What the paper says, with its figure."""
    data: str
    """Data set, with complete or subset."""
    verdict: Verdict
    ours: str
    """What was measured: number, interval, n."""


def unrun(title: str, data: str, what: str) -> Claim:
    """A claim that nothing has been run for, or too little."""
    return Claim(title, data, Verdict.OPEN, f"too few runs: {what}")


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """As it is printed: ``+0.12``, ``−3.40``, ``∞``."""
    if math.isnan(value):
        return "–"
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    negative = value < 0 and (math.isinf(value) or float(text) != 0)
    return (MINUS if negative else "+" if sign else "") + text


def p_value(p: float) -> str:
    """``0.012`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    """``[−0.10, 0.20]``."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def difference(comparison: Paired, digits: int = 2) -> str:
    """``−0.12 [−0.30, 0.06], n = 5``."""
    bounds = interval(comparison.low, comparison.high, digits)
    return f"{number(comparison.difference, digits, sign=True)} {bounds}, n = {comparison.n}"


def all_the_same(comparisons: Mapping[str, Paired]) -> Verdict:
    """Whether all are within their margins: every one must be shown to be, and one that is certainly not refutes.

    That all are is shown by each test at its own level (intersection-union), without correction.
    """
    if any(comparison.differ for comparison in comparisons.values()):
        return Verdict.NOT_REPRODUCED
    same = comparisons and all(comparison.equivalent for comparison in comparisons.values())
    return Verdict.REPRODUCED if same else Verdict.OPEN


def all_above(comparisons: Mapping[str, Paired]) -> Verdict:
    """Whether all differences are above 0, by t-tests with Holm's correction; one certainly below 0 refutes."""
    corrected = holm([comparison.p_t for comparison in comparisons.values()])
    certain = [
        comparison.difference for comparison, p in zip(comparisons.values(), corrected, strict=True) if p < LEVEL
    ]
    if any(value < 0 for value in certain):
        return Verdict.NOT_REPRODUCED
    return Verdict.REPRODUCED if certain and len(certain) == len(comparisons) else Verdict.OPEN


def advantage(comparison: Paired, claimed: float) -> Verdict:
    """Whether a claimed advantage is there: above 0 for certain; refuted where the interval ends below the claim."""
    if comparison.p_t < LEVEL and comparison.difference > 0:
        return Verdict.REPRODUCED
    return Verdict.NOT_REPRODUCED if comparison.high < claimed else Verdict.OPEN


def farthest(comparisons: Mapping[str, Paired]) -> tuple[str, Paired]:
    """The comparison whose difference is largest, of either sign."""
    return max(comparisons.items(), key=lambda entry: abs(entry[1].difference))
