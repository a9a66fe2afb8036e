"""Claims of the paper about its diagnostics: spreading, gradients, multi-peak profiles, sparsity, a third layer."""

from __future__ import annotations

import json
from collections.abc import Iterator

from psn_lightning.paper.report import published
from psn_lightning.paper.report.contrasts import Contrast
from psn_lightning.paper.report.evidence import Assessment, Evidence
from psn_lightning.paper.report.heterogeneity_claims import judge_gradient, judge_multipeak
from psn_lightning.paper.report.runs import name_cell
from psn_lightning.paper.report.verdicts import (
    Claim,
    Effect,
    Size,
    Verdict,
    difference,
    judge_all_above,
    judge_equality,
    number,
)

_LOSS_OF_SEQUENTIAL = 20.0  # points; the paper: from 97.5 to 75
_TOLERANCE = 0.5  # of a printed "about"


def diagnostic_claims(assessment: Assessment) -> Iterator[Claim]:
    """Judge the claims about spreading, gradients, multi-peak profiles, sparsity and architecture.

    Args:
        assessment: Plan, runs and analysis.
    """
    for name, decide in (
        ("spreading", _judge_spreading),
        ("gradient-ratio", judge_gradient),
        ("multipeak-flat", judge_multipeak),
        ("sparsity", _judge_sparsity),
        ("inverse", _judge_inverse),
    ):
        yield assessment.judge(name, "mnist", str(assessment.plan.claims[name].experiment), decide)
    yield assessment.judge("third-layer", "forest", "architecture", _judge_third_layer)


def _judge_spreading(evidence: Evidence) -> Claim:
    """Judge that even and random spreading agree and sequential spreading collapses."""
    layout = evidence.layout("model.spreading")
    same, loss = layout.difference("random", "even"), layout.difference("sequential", "even")
    if same is None or loss is None:
        return evidence.undecided("even, random and sequential with two seeds each")
    verdict = judge_equality({"random": same}, evidence.margin("accuracy"), evidence.alpha)
    if loss.p_above(-_LOSS_OF_SEQUENTIAL) < evidence.alpha:
        verdict = Verdict.NOT_REPRODUCED
    elif verdict is Verdict.REPRODUCED and loss.p_below(-_LOSS_OF_SEQUENTIAL) >= evidence.alpha:
        verdict = Verdict.OPEN
    ours = f"random − even {difference(same, evidence.alpha)}; sequential − even {difference(loss, evidence.alpha)}"
    paper = f"± 0.3; {number(published.SEQUENTIAL - published.SPREADING, 1)}"
    effect = Effect(same, evidence.alpha, evidence.margin("accuracy"))
    return Claim(evidence.claim.claim, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)


def _contrast_of(evidence: Evidence, key: str, one: str, other: str) -> Contrast | None:
    """Estimate the difference of two values of a setting, over all cells that exist with both."""
    layout = evidence.layout()
    rests = [{k: v for k, v in json.loads(cell).items() if k != key} for cell in layout.cells]
    pairs = [(name_cell({**rest, key: one}), name_cell({**rest, key: other})) for rest in rests]
    both = {pair for pair in pairs if set(pair) <= set(layout.cells)}
    weights: dict[str, float] = {}
    for first, second in sorted(both):
        weights |= {first: 1 / len(both), second: -1 / len(both)}
    return layout.contrast(weights)


def _judge_sparsity(evidence: Evidence) -> Claim:
    """Judge the losses of accuracy from 85 to 98%, and from 99 to 99.9%."""
    highest = "clamped" if evidence.runs.having({"sparsity": "clamped"}) else "ceiling"  # older runs have 99.87%
    falls = {
        "85 to 98": _contrast_of(evidence, "sparsity", "98", "85"),
        "99 to 99.9": _contrast_of(evidence, "sparsity", highest, "99"),
    }
    found = {name: contrast for name, contrast in falls.items() if contrast is not None}
    if len(found) < 2:
        return evidence.undecided("85, 98, 99 and 99.9% with two seeds each")
    printed = evidence.claim.paper
    losses = {name: Contrast(-c.difference, c.error, c.df, c.n) for name, c in found.items()}
    verdict = judge_all_above(losses, evidence.alpha)
    size = _judge_sizes(found, printed, evidence.alpha)
    ours = "; ".join(f"{name}: {difference(contrast, evidence.alpha)}" for name, contrast in found.items())
    paper = "; ".join(f"{name}: {number(value, 1)}" for name, value in printed.items())
    effect = Effect(found["85 to 98"], evidence.alpha, printed=printed["85 to 98"])
    return Claim(evidence.claim.claim, evidence.title, verdict, ours, paper, size, evidence.basis, effect)


def _judge_sizes(found: dict[str, Contrast], printed: dict[str, float], alpha: float) -> Size:
    """Judge whether losses are certainly less than half of the printed ones, or more than one and a half times."""
    for name, contrast in found.items():
        low, high = sorted(bound / printed[name] for bound in contrast.interval(alpha))
        if high < 1 - _TOLERANCE:
            return Size.SMALLER
        if low > 1 + _TOLERANCE:
            return Size.LARGER
    return Size.COMPATIBLE


def _judge_inverse(evidence: Evidence) -> Claim:
    """Judge that profiles and their inverses are equal."""
    layout = evidence.layout()
    cells = [json.loads(cell) for cell in layout.cells]
    weights: dict[str, float] = {}
    pairs = [
        (name_cell(cell), name_cell({**cell, "profile": cell["profile"].removesuffix(" inverse")}))
        for cell in cells
        if cell["profile"].endswith(" inverse")
    ]
    both = [pair for pair in pairs if set(pair) <= set(layout.cells)]
    for inverse, plain in both:
        weights |= {inverse: 1 / len(both), plain: -1 / len(both)}
    contrast = layout.contrast(weights)
    if contrast is None:
        return evidence.undecided("a profile and its inverse with two seeds each")
    margin = evidence.margin("accuracy")
    verdict = judge_equality({"inverse": contrast}, margin, evidence.alpha)
    ours = f"inverse − profile {difference(contrast, evidence.alpha)}, {len(both)} pairs of cells"
    effect = Effect(contrast, evidence.alpha, margin)
    return Claim(
        evidence.claim.claim, evidence.title, verdict, ours, f"± {margin}", basis=evidence.basis, effect=effect
    )


def _judge_third_layer(evidence: Evidence) -> Claim:
    """Judge the gain of a third hidden layer at every width."""
    low, high = evidence.claim.paper["gain"]
    layout = evidence.layout("model.hidden")
    widths = sorted({json.loads(cell)[0] for cell in layout.cells})
    found = {
        str(width): gain
        for width in widths
        if (gain := layout.difference(json.dumps([width] * 3), json.dumps([width] * 2))) is not None
    }
    if not found:
        return evidence.undecided("one width with two and three layers and two seeds each")
    verdict, size = judge_all_above(found, evidence.alpha, evidence.margin("accuracy")), Size.COMPATIBLE
    bounds = [gain.interval(evidence.alpha) for gain in found.values()]
    if any(upper < low for _, upper in bounds):
        size = Size.SMALLER
    elif any(lower > high for lower, _ in bounds):
        size = Size.LARGER
    ours = "; ".join(f"{width}: {difference(gain, evidence.alpha)}" for width, gain in found.items())
    effect = Effect(min(found.values(), key=lambda gain: gain.difference), evidence.alpha, printed=low)
    return Claim(
        evidence.claim.claim, evidence.title, verdict, ours, f"+{low} to +{high}", size, evidence.basis, effect
    )
