"""Verdicts on claims, the rules by which contrasts become verdicts, and the format of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from psn_lightning.paper.report.contrasts import Contrast, holm

MINUS = "−"
_EXACT = 9  # decimals in which two machines agree: beyond them the order of a sum decides how a tie is rounded


class Verdict(StrEnum):
    """Verdict on the direction of a claim, or on an equality."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    REVERSED = "reversed"
    OPEN = "open"
    NOT_RUN = "not run"
    NOT_COMPARABLE = "not comparable"
    CONTRADICTED = "the paper contradicts itself"


class Size(StrEnum):
    """Verdict on the size of an effect beside the printed one."""

    COMPATIBLE = "compatible"
    SMALLER = "smaller"
    LARGER = "larger"
    NONE = "–"


@dataclass(frozen=True)
class Effect:
    """Difference that a claim is about: in points of accuracy, or of fan-in CCV if the claim is not of accuracies."""

    contrast: Contrast
    """Our difference."""
    alpha: float
    """1 - confidence of its interval."""
    margin: float = 0.0
    """Margin within which the claim has it; 0 if the claim is about a direction or a size."""
    printed: float | None = None
    """Difference that the paper prints."""
    printed_error: float = 0.0
    """Standard error of the printed difference."""
    fixed_error: float = 0.0
    """Part of the standard error of our difference that no seed of ours reduces: that of a printed mean."""


@dataclass(frozen=True)
class Claim:
    """Claim of the paper on one data set with its verdicts; a row of the table of claims."""

    title: str
    """Statement of the paper."""
    data: str
    """Title of the data set, or the layer that the claim is about."""
    verdict: Verdict
    """Verdict on direction or equality."""
    ours: str
    """Measured number, with interval and n."""
    paper: str = ""
    """Printed number; empty if the paper prints none."""
    size: Size = Size.NONE
    """Verdict on the size; NONE if the paper prints none."""
    basis: str = ""
    """Runs that decide: under the analysis plan, or exploratory."""
    effect: Effect | None = None
    """Difference that the claim is about; None if it is about something else than one difference."""
    p: float = 1.0
    """One-sided p-value of the direction, for claims on several data sets that are corrected together."""
    name: str = ""
    """Name of the claim in the analysis plan, of which several may be parts; empty for a prediction of the plan."""
    of_accuracy: bool = True
    """Whether it is about accuracies, so that another estimator might change the verdict."""
    reproduction: str = ""
    """Reproduction that decides, with its data set, as the command has it: ``starts --data emnist``."""
    left: int = 0
    """Number of its runs that are not recorded."""
    corrected: int = 0
    """Size of the family in which the direction, shown alone, is not shown; 0 if there is none."""


def judge_equality(contrasts: Mapping[str, Contrast], margin: float, alpha: float) -> Verdict:
    """Judge the claim that all differences are within a margin.

    It is reproduced if every contrast is shown to be within the margin, each tested at its own level (an
    intersection-union test needs no correction), and not reproduced if one is shown to be outside it, by minimum-effect
    tests with Holm's correction.

    Args:
        contrasts: Contrasts by name, at least one.
        margin: Largest difference that counts as equal.
        alpha: Level of the tests.
    """
    if all(contrast.p_within(margin) < alpha for contrast in contrasts.values()):
        return Verdict.REPRODUCED
    beyond = min(holm([contrast.p_beyond(margin) for contrast in contrasts.values()]))
    return Verdict.NOT_REPRODUCED if beyond < alpha else Verdict.OPEN


def judge_none_above(
    contrasts: Mapping[str, Contrast], p_above: Mapping[str, float], margin: float, alpha: float
) -> Verdict:
    """Judge the claim that no difference is above 0.

    It is not reproduced if one is, by p-values that are corrected for their number. That none is found supports the
    claim only if all are shown to be below the margin.

    Args:
        contrasts: Contrasts by name, at least one.
        p_above: Corrected p-value of each being above 0.
        margin: Largest difference that counts as none.
        alpha: Level of the tests.
    """
    if min(p_above.values()) < alpha:
        return Verdict.NOT_REPRODUCED
    below = all(contrast.p_below(margin) < alpha for contrast in contrasts.values())
    return Verdict.REPRODUCED if below else Verdict.OPEN


def judge_all_above(contrasts: Mapping[str, Contrast], alpha: float, bound: float = 0.0) -> Verdict:
    """Judge the claim that all differences are above 0.

    It is reproduced if each is, one-sided at its own level, and reversed if one is shown to be below, with Holm's
    correction.

    Args:
        contrasts: Contrasts by name, at least one.
        alpha: Level of the tests.
        bound: Largest effect that is too small to count: if a difference is shown to be below it, and none to be below
            0, the claim is not reproduced.
    """
    if all(contrast.p_above() < alpha for contrast in contrasts.values()):
        return Verdict.REPRODUCED
    if min(holm([contrast.p_below() for contrast in contrasts.values()])) < alpha:
        return Verdict.REVERSED
    smaller = bound > 0 and min(holm([contrast.p_below(bound) for contrast in contrasts.values()])) < alpha
    return Verdict.NOT_REPRODUCED if smaller else Verdict.OPEN


def correct_family(claims: Sequence[Claim], alpha: float) -> list[Claim]:
    """Correct the directions of one claim on several data sets by Holm's method; a claim without runs counts as p = 1.

    Args:
        claims: Claims with the p-values of their directions.
        alpha: Level of a claim without an effect of its own.

    Returns:
        Claims, open where the direction does not outlive the correction.
    """
    size = len(claims)
    corrected = holm([claim.p for claim in claims])
    levels = [alpha if claim.effect is None else claim.effect.alpha for claim in claims]
    return [
        replace(claim, verdict=Verdict.OPEN, corrected=size)
        if claim.verdict in (Verdict.REPRODUCED, Verdict.REVERSED) and p >= level
        else claim
        for claim, p, level in zip(claims, corrected, levels, strict=True)
    ]


def judge_size(contrast: Contrast, printed: float, error: float, alpha: float) -> Size:
    """Judge whether a printed difference is one that a replication could find.

    Args:
        contrast: Our difference.
        printed: Difference that the paper prints, not 0.
        error: Standard error of the printed difference.
        alpha: 1 - confidence of the prediction interval.
    """
    if contrast.predicts(printed, error, alpha):
        return Size.COMPATIBLE
    return Size.SMALLER if contrast.difference / printed < 1 else Size.LARGER


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """Format a number: ``+0.12``, ``−3.40``, ``∞``; ``–`` for NaN.

    Args:
        value: Number to format.
        digits: Number of decimals.
        sign: Whether a positive number has a sign.
    """
    if math.isnan(value):
        return "–"
    value = round(value, _EXACT)
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    negative = value < 0 and (math.isinf(value) or float(text) != 0)
    return (MINUS if negative else "+" if sign else "") + text


def p_value(p: float) -> str:
    """Format a p-value: ``0.012`` or ``< 0.001``; ``–`` for NaN."""
    if math.isnan(p):
        return "–"
    p = round(p, _EXACT)
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Format an interval: ``[−0.10, 0.20]``."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def difference(contrast: Contrast, alpha: float, digits: int = 2) -> str:
    """Format a difference with its interval: ``−0.12 [−0.30, 0.06], n = 5``."""
    bounds = interval(*contrast.interval(alpha), digits)
    return f"{number(contrast.difference, digits, sign=True)} {bounds}, n = {contrast.n}"
