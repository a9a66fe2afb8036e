"""Claims of the paper about RigL: its equilibrium CCV (std / mean of the fan-in), and the best start."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from functools import partial

import numpy as np
from scipy import stats

from psn_lightning.paper.plan import is_planned
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report import published
from psn_lightning.paper.report.contrasts import Contrast, farthest, hardly_detectable, welch
from psn_lightning.paper.report.evidence import Assessment, Evidence
from psn_lightning.paper.report.runs import Runs, curve, metric
from psn_lightning.paper.report.verdicts import (
    Claim,
    Effect,
    Size,
    Verdict,
    correct_family,
    difference,
    judge_all_above,
    judge_equality,
    judge_size,
    number,
    p_value,
)
from psn_lightning.paper.tail import count_tail_epochs
from psn_lightning.topology.equilibrium import PAPER_TABLE_4

_CCV = metric("fan_in/ccv")
_RMS_HOLDS, _RMS_FAILS = 0.05, 0.10  # relative errors of the plan's prediction
_STARTS = {"equilibrium -1.0": -1.0, "equilibrium -0.5": -0.5, "equilibrium": 0.0}


def dynamic_claims(assessment: Assessment) -> Iterator[Claim]:
    """Judge the claims about Table 4, the advantage of a start at the equilibrium, and Figure 3.

    Args:
        assessment: Plan, runs and analysis.
    """
    for rule, experiment in assessment.plan.claims["equilibrium"].experiments.items():
        for data in assessment.plan.claims["equilibrium"].data:
            decide = partial(_judge_equilibrium, rule)
            before = experiment if rule == "canonical" else None
            yield assessment.judge("equilibrium", data, before, decide, experiment)
    yield from _judge_table4(assessment)
    for rule, experiment in assessment.plan.claims["advantage"].experiments.items():
        older = {"fashion": "fashion-10-seeds"} if rule == "as written" else {}  # of Fashion-MNIST all that there are
        default = "rigl-init" if rule == "as written" else None
        decide = partial(_judge_advantage, rule)
        found = [
            assessment.judge("advantage", data, older.get(data, default), decide, experiment)
            for data in assessment.plan.claims["advantage"].data
        ]
        yield from correct_family(found, assessment.plan.alpha)
    for rule in ("canonical", "unseen"):
        before = "fashion-10-seeds" if rule == "canonical" else None
        yield assessment.judge("crossover", "fashion", before, partial(_judge_crossover, rule))
        for data in assessment.plan.claims["nearness"].data:
            before = "rigl-init" if rule == "canonical" else None
            yield assessment.judge("nearness", data, before, partial(_judge_nearness, rule))
        decide = partial(_judge_erk, rule, assessment.runs)
        before = "rigl-init" if rule == "canonical" else None
        yield assessment.judge("erk-worst", "forest", before, decide, "starts")


def _describe_rule(rule: str) -> str:
    return "canonical growth, Eq. 9" if rule == "as written" else f"{rule} growth, nn.Linear's scale"


def _select_rule(runs: Runs, rule: str) -> Runs:
    """Select the runs of a growth rule at 90%; older experiments are of canonical RigL."""
    at_90 = Runs(run for run in runs.all if run.cell.get("model.sparsity", 0.9) == 0.9)
    return Runs(run for run in at_90.all if run.cell.get("growth", rule) == rule)


def _judge_equilibrium(rule: str, evidence: Evidence) -> Claim:
    """Judge that the final CCVs from ERK and from lognormal masks are equal, at every sparsity."""
    title = f"RigL's equilibrium CCV does not depend on the start ({rule} growth)"
    found: dict[str, Contrast] = {}
    ends = []
    for sparsity in sorted(evidence.runs.values("model.sparsity")):
        own = evidence.runs.having({"model.sparsity": sparsity})
        contrast = own.layout("start", _CCV).difference("lognormal", "erk")
        if contrast is None:
            continue
        found[f"{sparsity:.0%}"] = contrast
        means = [statistics.fmean(own.having({"start": s}).by_seed(_CCV).values()) for s in ("erk", "lognormal")]
        ends.append(f"{sparsity:.0%} {number(means[0])} and {number(means[1])}")
    if not found:
        return evidence.undecided("two starts with two seeds each", title)
    name, worst = farthest(found)
    verdict = judge_equality(found, evidence.margin("ccv"), evidence.alpha)
    ours = f"from ERK and lognormal: {'; '.join(ends)}; farthest at {name}: {difference(worst, evidence.alpha)}"
    return Claim(title, evidence.title, verdict, ours, "independent", basis=evidence.basis)


def _judge_table4(assessment: Assessment) -> Iterator[Claim]:
    """Judge the 16 cells of Table 4 together, by growth rule, from ERK starts."""
    for rule, experiment in assessment.plan.claims["equilibrium"].experiments.items():
        own = assessment.runs.of(experiment).having({"start": "erk"})
        planned = Runs(run for run in own.all if is_planned(run))
        own = planned or own
        errors = []
        for data, row in PAPER_TABLE_4.items():
            for sparsity, printed in row.items():
                cell = Runs(r for r in own.having({"model.sparsity": sparsity}).all if r.data == data)
                if cell:
                    errors.append(statistics.fmean(cell.by_seed(_CCV).values()) / printed - 1)
        title = f"RigL's equilibrium CCVs are those of Table 4 ({rule} growth, from ERK)"
        basis = f"{'plan' if planned else 'exploratory'}: {experiment}, {len(own)} runs"
        if not errors:
            yield Claim(title, "all data sets", Verdict.NOT_RUN, "too few runs", basis="not run", name="equilibrium")
            continue
        rms = math.sqrt(statistics.fmean(error**2 for error in errors))
        verdict = (
            Verdict.REPRODUCED if rms < _RMS_HOLDS else Verdict.NOT_REPRODUCED if rms > _RMS_FAILS else Verdict.OPEN
        )
        if len(errors) < 16 and verdict is Verdict.REPRODUCED:
            verdict = Verdict.OPEN
        size = Size.COMPATIBLE if rms < _RMS_HOLDS else Size.SMALLER if statistics.fmean(errors) < 0 else Size.LARGER
        mean = number(100 * statistics.fmean(errors), 1, sign=True)
        ours = f"rms of the relative error {rms:.1%} over {len(errors)} of 16 cells, mean {mean}%"
        yield Claim(title, "all data sets", verdict, ours, "16 numbers", size, basis, name="equilibrium")


def _judge_advantage(rule: str, evidence: Evidence) -> Claim:
    """Judge the advantage of a lognormal start at the equilibrium over ERK, its size, and beside it the placebo."""
    title = f"A lognormal start at the equilibrium beats ERK ({_describe_rule(rule)})"
    own = evidence.runs if rule == "as written" else _select_rule(evidence.runs, rule)
    layout = evidence.layout("start", own)
    found = layout.difference("equilibrium", "erk")
    if found is None:
        return evidence.undecided("both starts with two seeds each", title)
    paper = evidence.claim.paper[evidence.data]
    printed, n = paper["difference"], paper["n"]
    error = paper.get("se", layout.residual_std * math.sqrt(2 / n))
    verdict = judge_all_above({"equilibrium": found}, evidence.alpha, hardly_detectable(error, n))
    size = judge_size(found, printed, error, evidence.alpha)
    ours = f"{difference(found, evidence.alpha)}, p {p_value(found.p_not_zero())}"
    placebo = layout.difference("shuffled", "equilibrium")
    if placebo is not None:
        ours += f"; neurons shuffled − hubs first: {difference(placebo, evidence.alpha)}"
    printed_text = f"{number(printed, sign=True)} ± {number(error)}"
    effect = Effect(found, evidence.alpha, printed=printed, printed_error=error)
    p = min(found.p_above(), found.p_below())
    return Claim(title, evidence.title, verdict, ours, printed_text, size, evidence.basis, effect, p)


def _third(run: RecordedRun, first: bool) -> float:
    """Mean accuracy of the first or last third of the epochs."""
    values, length = curve(run), count_tail_epochs(run.epochs)
    return statistics.fmean(values[:length] if first else values[-length:])


def _judge_crossover(rule: str, evidence: Evidence) -> Claim:
    """Judge that the accuracy from the equilibrium is lower in the first third and higher in the last."""
    title = f"The equilibrium start begins below ERK and overtakes it ({rule} growth)"
    own = _select_rule(evidence.runs, rule)
    early, late = (
        own.layout("start", partial(_third, first=first)).difference("equilibrium", "erk") for first in (True, False)
    )
    if early is None or late is None:
        return evidence.undecided("both starts with two seeds each", title)
    below = Contrast(-early.difference, early.error, early.df, early.n)
    verdict = judge_all_above({"early": below, "late": late}, evidence.alpha)
    if verdict is Verdict.REVERSED and below.p_above() < evidence.alpha:
        verdict = Verdict.NOT_REPRODUCED  # it begins below, and stays there
    ours = f"first third {difference(early, evidence.alpha)}; last third {difference(late, evidence.alpha)}"
    first, last = published.CROSSOVER_EPOCHS
    effect = Effect(late, evidence.alpha)
    paper = f"at epoch {first} to {last}"
    return Claim(title, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)


def _judge_nearness(rule: str, evidence: Evidence) -> Claim:
    """Judge that the accuracy rises with the nearness of a lognormal start to the equilibrium CCV."""
    title = f"The nearer a lognormal start is to the equilibrium, the better ({rule} growth)"
    own = Runs(run for run in _select_rule(evidence.runs, rule).all if run.cell["start"] in _STARTS)
    if set(own.values("start")) != set(_STARTS):
        return evidence.undecided("three starts with two seeds each", title)
    layout = evidence.layout("start", own)
    trend = layout.contrast({start: 2 * offset + 1 for start, offset in _STARTS.items() if 2 * offset + 1})
    if trend is None:
        return evidence.undecided("three starts with two seeds each", title)
    verdict = judge_all_above({"trend": trend}, evidence.alpha)
    if verdict is Verdict.OPEN and trend.p_below(0.1) < evidence.alpha:
        verdict = Verdict.NOT_REPRODUCED
    seeds = [s for s in layout.seeds if all((start, s) in layout.values for start in _STARTS)]
    ranked = [[layout.values[start, seed] for start in _STARTS] for seed in seeds]
    page = stats.page_trend_test(np.array(ranked)).pvalue if len(ranked) > 1 else math.nan
    ours = f"equilibrium − (equilibrium − 1): {difference(trend, evidence.alpha)}; Page's p {p_value(float(page))}"
    effect = Effect(trend, evidence.alpha)
    return Claim(title, evidence.title, verdict, ours, "rising", basis=evidence.basis, effect=effect)


def _judge_erk(rule: str, runs: Runs, evidence: Evidence) -> Claim:
    """Judge that the accuracy from ERK is below that of every other start and of the static random network."""
    has_linear = any(is_planned(run) for run in evidence.runs.all)  # older runs have the scale of Eq. 9
    static = runs.of("static-linear" if has_linear else "static", "forest").having({"profile": "random"})
    title = f"ERK is the worst start, below the static random network as well ({rule} growth)"
    own = _select_rule(evidence.runs, rule)
    layout = evidence.layout("start", own)
    found = layout.against("erk") if "erk" in layout.cells else {}
    erk = list(own.having({"start": "erk"}).by_seed(evidence.analysis.measure).values())
    if static and len(erk) > 1 and len(static) > 1:
        values = list(static.by_seed(evidence.analysis.measure).values())
        beside = welch(values, statistics.fmean(erk), statistics.stdev(erk), len(erk))
        assert beside is not None
        found["static random"] = beside
    if len(found) < 2:
        return evidence.undecided("ERK and two others with two seeds each", title)
    verdict = judge_all_above(found, evidence.alpha)
    ours = "; ".join(f"{name} − ERK {difference(contrast, evidence.alpha)}" for name, contrast in found.items())
    paper = f"ERK {published.FOREST_ERK}, static random {published.FOREST_STATIC_RANDOM}"
    effect = Effect(farthest(found)[1], evidence.alpha)
    return Claim(title, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)
