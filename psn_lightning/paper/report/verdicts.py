"""Claims of the paper with their verdicts, the rules of judgement, and the format of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from psn_lightning.paper.report.statistics import LEVEL, Paired, holm

MINUS = "−"


class Verdict(StrEnum):
    """Verdict on a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    OPEN = "not decided with this budget"


@dataclass(frozen=True)
class Claim:
    """Claim of the paper with its verdict; a row of the table of claims."""

    title: str
    """Statement of the paper, with its number."""
    data: str
    """Title of the data set, or the layer that the claim is about."""
    verdict: Verdict
    """Verdict from the measurement."""
    ours: str
    """Measured number, with interval and n."""


def unrun(title: str, data: str, needed: str) -> Claim:
    """Make a claim that is open because it has too few runs.

    Args:
        title: Statement of the paper.
        data: Title of the data set.
        needed: Runs that are needed, in words.
    """
    return Claim(title, data, Verdict.OPEN, f"too few runs: {needed}")


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """Format a number: ``+0.12``, ``−3.40``, ``∞``; ``–`` for NaN.

    Args:
        value: Number to format.
        digits: Number of decimals.
        sign: Whether a positive number has a sign.
    """
    if math.isnan(value):
        return "–"
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    negative = value < 0 and (math.isinf(value) or float(text) != 0)
    return (MINUS if negative else "+" if sign else "") + text


def p_value(p: float) -> str:
    """Format a p-value: ``0.012`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Format an interval: ``[−0.10, 0.20]``."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def difference(comparison: Paired, digits: int = 2) -> str:
    """Format a difference with its interval: ``−0.12 [−0.30, 0.06], n = 5``."""
    bounds = interval(comparison.low, comparison.high, digits)
    return f"{number(comparison.difference, digits, sign=True)} {bounds}, n = {comparison.n}"


def all_the_same(comparisons: Mapping[str, Paired]) -> Verdict:
    """Judge the claim that all differences are within their margins.

    The claim is reproduced if every comparison is equivalent, each tested at its own level without correction
    (intersection-union test), and not reproduced if one difference is certainly outside its margin.

    Args:
        comparisons: Comparisons by name.
    """
    if any(comparison.differ for comparison in comparisons.values()):
        return Verdict.NOT_REPRODUCED
    same = comparisons and all(comparison.equivalent for comparison in comparisons.values())
    return Verdict.REPRODUCED if same else Verdict.OPEN


def all_above(comparisons: Mapping[str, Paired]) -> Verdict:
    """Judge the claim that all differences are above 0.

    The claim is reproduced if every difference is significantly above 0, by t-tests with Holm's correction, and not
    reproduced if one is significantly below 0.

    Args:
        comparisons: Comparisons by name.
    """
    corrected = holm([comparison.p_t for comparison in comparisons.values()])
    certain = [
        comparison.difference for comparison, p in zip(comparisons.values(), corrected, strict=True) if p < LEVEL
    ]
    if any(value < 0 for value in certain):
        return Verdict.NOT_REPRODUCED
    return Verdict.REPRODUCED if certain and len(certain) == len(comparisons) else Verdict.OPEN


def advantage(comparison: Paired, claimed: float) -> Verdict:
    """Judge a claimed advantage.

    The claim is reproduced if the difference is significantly above 0, and not reproduced if its interval ends below
    the claimed value.

    Args:
        comparison: Comparison of the two conditions.
        claimed: Advantage that the paper prints.
    """
    if comparison.p_t < LEVEL and comparison.difference > 0:
        return Verdict.REPRODUCED
    return Verdict.NOT_REPRODUCED if comparison.high < claimed else Verdict.OPEN


def farthest(comparisons: Mapping[str, Paired]) -> tuple[str, Paired]:
    """Find the comparison with the largest absolute difference; return its name and the comparison."""
    return max(comparisons.items(), key=lambda entry: abs(entry[1].difference))
