"""Claims of the paper about Table 6: static profiles, the random mask and the dense network at 90% sparsity."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from psn_lightning.paper.report import published
from psn_lightning.paper.report.contrasts import Contrast, farthest, holm, welch
from psn_lightning.paper.report.evidence import Assessment, Evidence
from psn_lightning.paper.report.runs import Runs, name_cell
from psn_lightning.paper.report.verdicts import (
    Claim,
    Effect,
    Verdict,
    difference,
    judge_all_above,
    judge_equality,
    judge_none_above,
    number,
    p_value,
)

_SCALE_REFUTED = 0.1  # points on MNIST; the plan's refutation of our claim about the first weights


def table6_claims(assessment: Assessment) -> Iterator[Claim]:
    """Judge the claims about Table 6, and ours about the scale of the first weights.

    Args:
        assessment: Plan, runs and analysis.
    """
    for name, decide in (
        ("static-equal", _judge_equal),
        ("static-none-better", _judge_none_better),
        ("static-near-dense", _judge_near_dense),
        ("dense-accuracy", _judge_dense_accuracy),
    ):
        for data in assessment.plan.claims[name].data:
            yield assessment.judge(name, data, "static", decide)
    yield from assessment.judge_family("scale", dict.fromkeys(assessment.plan.claims["scale"].data), _judge_scale)


def _compare_profiles(evidence: Evidence, baseline: str) -> dict[str, Contrast]:
    """Compare the sparse profiles with the random one, or with the dense network."""
    layout = evidence.layout("profile")
    contrasts = layout.against(baseline) if baseline in layout.cells else {}
    return {profile: contrast for profile, contrast in contrasts.items() if profile != "dense"}


def _print_farthest(evidence: Evidence, contrasts: dict[str, Contrast]) -> str:
    name, worst = farthest(contrasts)
    shown = max(contrast.smallest_margin(evidence.alpha) for contrast in contrasts.values())
    return f"{len(contrasts)} cells, farthest {name}: {difference(worst, evidence.alpha)}; within {number(shown)} shown"


def _contradict(
    verdict: Verdict, evidence: Evidence, contrasts: dict[str, Contrast], margin: float, low: bool
) -> Verdict:
    """Say that the paper contradicts itself where its own table is against the claim as our runs are.

    Args:
        verdict: Verdict by our runs alone.
        evidence: Runs of the claim.
        contrasts: Profiles minus the baseline, in our runs.
        margin: Margin of the claim.
        low: Whether only differences below the margin are against the claim.

    Returns:
        CONTRADICTED if a profile that is certainly beyond the margin here is so in the paper's table, on the same side.
    """
    if verdict is not Verdict.NOT_REPRODUCED:
        return verdict
    printed = published.STATIC[evidence.data]
    baseline = "dense" if low else "random"
    p = [contrast.p_below(-margin) if low else contrast.p_beyond(margin) for contrast in contrasts.values()]
    beyond = [name for name, corrected in zip(contrasts, holm(p), strict=True) if corrected < evidence.alpha]
    paper = {name: value - printed[baseline] for name, value in printed.items()}
    same = any(name in paper and paper[name] * math.copysign(1, contrasts[name].difference) > margin for name in beyond)
    return Verdict.CONTRADICTED if same else verdict


def _judge_equal(evidence: Evidence) -> Claim:
    """Judge that every static profile equals the random one."""
    contrasts = _compare_profiles(evidence, "random")
    if not contrasts:
        return evidence.undecided("random and one profile with two seeds each")
    margin = evidence.margin("accuracy")
    verdict = judge_equality(contrasts, margin, evidence.alpha)
    verdict = _contradict(verdict, evidence, contrasts, margin, low=False)
    ours = _print_farthest(evidence, contrasts)
    effect = Effect(farthest(contrasts)[1], evidence.alpha, margin)
    return Claim(
        evidence.claim.claim, evidence.title, verdict, ours, f"± {margin}", basis=evidence.basis, effect=effect
    )


def _judge_none_better(evidence: Evidence) -> Claim:
    """Judge that no static profile is better than the random one."""
    contrasts = _compare_profiles(evidence, "random")
    if not contrasts:
        return evidence.undecided("random and one profile with two seeds each")
    sparse = Runs(run for run in evidence.runs.all if run.cell["profile"] != "dense")
    p = evidence.layout("profile", sparse).p_any_above("random")
    verdict = judge_none_above(contrasts, p, evidence.margin("accuracy"), evidence.alpha)
    name, best = max(contrasts.items(), key=lambda entry: entry[1].difference)
    ours = f"best {name}: {difference(best, evidence.alpha)}, Dunnett's p {p_value(p[name])}"
    return Claim(evidence.claim.claim, evidence.title, verdict, ours, basis=evidence.basis)


def _judge_near_dense(evidence: Evidence) -> Claim:
    """Judge that no static profile is far below the dense network."""
    contrasts = _compare_profiles(evidence, "dense")
    if not contrasts:
        return evidence.undecided("dense and one profile with two seeds each")
    margin = evidence.margin("dense")
    verdict = Verdict.OPEN
    if all(contrast.p_above(-margin) < evidence.alpha for contrast in contrasts.values()):
        verdict = Verdict.REPRODUCED
    elif min(holm([contrast.p_below(-margin) for contrast in contrasts.values()])) < evidence.alpha:
        verdict = Verdict.NOT_REPRODUCED
    name, worst = min(contrasts.items(), key=lambda entry: entry[1].difference)
    ours = f"lowest {name}: {difference(worst, evidence.alpha)}"
    verdict = _contradict(verdict, evidence, contrasts, margin, low=True)
    effect = Effect(worst, evidence.alpha, margin)
    return Claim(
        evidence.claim.claim, evidence.title, verdict, ours, "−0.2 to −0.6", basis=evidence.basis, effect=effect
    )


def _judge_dense_accuracy(evidence: Evidence) -> Claim:
    """Judge that the dense network has the printed accuracy."""
    printed = evidence.claim.paper[evidence.data]
    values = list(evidence.runs.having({"profile": "dense"}).by_seed(evidence.analysis.measure).values())
    contrast = welch(values, printed["mean"], printed["sd"], printed["n"])
    if contrast is None:
        return evidence.undecided("dense with two seeds")
    verdict = judge_equality({"dense": contrast}, evidence.margin("accuracy"), evidence.alpha)
    if not evidence.runs.complete():
        verdict = Verdict.NOT_COMPARABLE
    ours = f"{number(statistics.fmean(values))}%, ours − the paper's: {difference(contrast, evidence.alpha)}"
    paper = f"{printed['mean']} ± {printed['sd']}, n = {printed['n']}"
    fixed = printed["sd"] / math.sqrt(printed["n"])
    effect = Effect(contrast, evidence.alpha, evidence.margin("accuracy"), fixed_error=fixed)
    return Claim(evidence.claim.claim, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)


def _judge_scale(evidence: Evidence) -> Claim:
    """Judge that nn.Linear's scale gives a higher accuracy than Eq. 9, over the profiles."""
    layout = evidence.layout()
    weights = {}
    for profile in evidence.runs.values("profile") if evidence.runs else []:
        for scale, sign in (("linear", 1), ("equation 9", -1)):
            weights[name_cell({"profile": profile, "scale": scale})] = sign / len(evidence.runs.values("profile"))
    contrast = layout.contrast(weights)
    if contrast is None:
        return evidence.undecided("both scales with two seeds each")
    bound = _SCALE_REFUTED if evidence.data == "mnist" else 0.0
    verdict = judge_all_above({"linear": contrast}, evidence.alpha, bound)
    predicted = evidence.claim.predicted.get(evidence.data)
    paper = "" if predicted is None else f"predicted {number(predicted, sign=True)}"
    ours, effect = difference(contrast, evidence.alpha), Effect(contrast, evidence.alpha)
    p = min(contrast.p_above(), contrast.p_below())
    return Claim(evidence.claim.claim, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect, p=p)
