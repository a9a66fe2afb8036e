"""Claims of the paper about the best start of RigL, and the plan's predictions about the place of the hubs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import stats

from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report import published
from psn_lightning.paper.report.contrasts import Contrast, hardly_detectable, welch
from psn_lightning.paper.report.evidence import Assessment, Evidence
from psn_lightning.paper.report.layout import Layout
from psn_lightning.paper.report.runs import Runs, curve, name_cell
from psn_lightning.paper.report.verdicts import (
    Claim,
    Effect,
    Size,
    Verdict,
    difference,
    judge_all_above,
    judge_size,
    number,
    p_value,
)
from psn_lightning.paper.tail import count_tail_epochs

_STARTS = {"equilibrium -1.0": -1.0, "equilibrium -0.5": -0.5, "equilibrium": 0.0}
_PLACEBO_BELOW = 0.1  # points; the plan's prediction is refuted if the placebo is certainly not that much below
_OLDER = {"canonical": "rigl-init", "unseen": None}  # what explores the claims of a growth rule about Figure 3


def start_claims(assessment: Assessment) -> Iterator[Claim]:
    """Judge the claims about the advantage of a start at the equilibrium, and Figure 3.

    Args:
        assessment: Plan, runs and analysis.
    """
    planned = assessment.plan.claims["advantage"]
    for rule, experiment in planned.experiments.items():
        older: dict[str, str | None] = dict.fromkeys(planned.data)
        if rule == "as written":
            older = {data: "fashion-10-seeds" if data == "fashion" else "rigl-init" for data in planned.data}
        yield from assessment.judge_family("advantage", older, partial(_judge_advantage, rule), experiment)
    for rule in ("unseen", "canonical"):
        for data in planned.data:
            found = assessment.judge("advantage", data, None, partial(_judge_placebo, rule), "starts")
            yield replace(found, name="")  # of the plan's predictions, not of the paper's claims
    for rule in ("canonical", "unseen"):
        before = "fashion-10-seeds" if rule == "canonical" else None
        yield assessment.judge("crossover", "fashion", before, partial(_judge_crossover, rule))
        for data in assessment.plan.claims["nearness"].data:
            yield assessment.judge("nearness", data, _OLDER[rule], partial(_judge_nearness, rule))
        decide = partial(_judge_erk, rule, assessment)
        yield assessment.judge("erk-worst", "forest", _OLDER[rule], decide, "starts")


def _describe_rule(rule: str) -> str:
    return "canonical growth, Eq. 9" if rule == "as written" else f"{rule} growth, nn.Linear's scale"


def _cells_of(runs: Runs, rule: str) -> dict[str, str]:
    """Names of the cells of a growth rule at 90%, by start; older experiments are of canonical RigL."""
    growth = "canonical" if rule == "as written" else rule
    return {
        str(run.cell["start"]): name_cell(run.cell)
        for run in runs.all
        if run.cell.get("model.sparsity", 0.9) == 0.9 and run.cell.get("growth", "canonical") == growth
    }


def _subtract(layout: Layout, cells: dict[str, str], one: str, other: str) -> Contrast | None:
    """Estimate the effect of one start minus that of another; None if one of them is not there."""
    return layout.difference(cells[one], cells[other]) if {one, other} <= set(cells) else None


def _judge_advantage(rule: str, evidence: Evidence) -> Claim:
    """Judge the advantage of a lognormal start at the equilibrium over ERK, and its size."""
    title = f"A lognormal start at the equilibrium beats ERK ({_describe_rule(rule)})"
    layout = evidence.layout()
    found = _subtract(layout, _cells_of(evidence.runs, rule), "equilibrium", "erk")
    if found is None:
        return evidence.undecided("both starts with two seeds each", title)
    paper = evidence.claim.paper[evidence.data]
    printed, n, printed_error = paper["difference"], paper["n"], paper.get("se")
    error = layout.residual_std * math.sqrt(2 / n) if printed_error is None else printed_error
    bound = evidence.margin("accuracy") if printed_error is None else hardly_detectable(printed_error, n)
    verdict = judge_all_above({"equilibrium": found}, evidence.alpha, bound)
    size = judge_size(found, printed, error, evidence.alpha)
    if verdict is Verdict.NOT_REPRODUCED and size is Size.COMPATIBLE:
        verdict = Verdict.OPEN
    p = min(found.p_above(), found.p_below())
    ours = f"{difference(found, evidence.alpha)}, one-sided p {p_value(p)}"
    printed_text = number(printed, sign=True) + (f" ± {number(printed_error)}" if printed_error else "")
    effect = Effect(found, evidence.alpha, printed=printed, printed_error=printed_error or 0.0)
    return Claim(title, evidence.title, verdict, ours, printed_text, size, evidence.basis, effect, p)


def _judge_placebo(rule: str, evidence: Evidence) -> Claim:
    """Judge the plan's predictions: hubs anywhere are worse than hubs first if growth goes by position, else equal."""
    layout = evidence.layout()
    by_rule = {name: _cells_of(evidence.runs, name) for name in ("canonical", "unseen")}
    found = _subtract(layout, by_rule[rule], "shuffled", "equilibrium")
    words = "below" if rule == "unseen" else "equal to"
    title = f"(ours) A start with its hubs anywhere is {words} the one with its hubs first ({_describe_rule(rule)})"
    if found is None:
        return evidence.undecided("both starts with two seeds each", title)
    verdict, margin = Verdict.OPEN, evidence.margin("accuracy")
    if rule == "unseen":
        if found.p_above() < evidence.alpha:
            verdict = Verdict.REVERSED
        elif found.p_above(-_PLACEBO_BELOW) < evidence.alpha:
            verdict = Verdict.NOT_REPRODUCED
        elif found.p_below() < evidence.alpha:
            verdict = Verdict.REPRODUCED
    elif found.p_not_zero() < evidence.alpha:
        verdict = Verdict.NOT_REPRODUCED
    elif found.p_within(margin) < evidence.alpha:
        verdict = Verdict.REPRODUCED
    ours = f"shuffled − hubs first: {difference(found, evidence.alpha)}"
    if rule == "unseen" and all({"equilibrium", "erk"} <= set(cells) for cells in by_rule.values()):
        signs = {"canonical": -1.0, "unseen": 1.0}
        ours += "; advantage over ERK, unseen − canonical growth: "
        weights = {
            by_rule[name][start]: sign * side
            for name, sign in signs.items()
            for start, side in (("equilibrium", 1.0), ("erk", -1.0))
        }
        interaction = layout.contrast(weights)
        assert interaction is not None
        ours += difference(interaction, evidence.alpha)
    effect = Effect(found, evidence.alpha, 0.0 if rule == "unseen" else margin)
    paper = f"predicted {'below 0' if rule == 'unseen' else 'equal'}"
    return Claim(title, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)


def _measure_first_third(run: RecordedRun) -> float:
    """Mean accuracy of the first third of the epochs, which are evaluated once each."""
    return statistics.fmean(curve(run)[: count_tail_epochs(run.epochs)])


def _judge_crossover(rule: str, evidence: Evidence) -> Claim:
    """Judge that the accuracy from the equilibrium is lower in the first third and higher in the last."""
    title = f"The equilibrium start begins below ERK and overtakes it ({rule} growth)"
    cells = _cells_of(evidence.runs, rule)
    first = evidence.runs.layout(measure=_measure_first_third, pooled=evidence.analysis.pooled)
    early, late = (_subtract(layout, cells, "equilibrium", "erk") for layout in (first, evidence.layout()))
    if early is None or late is None:
        return evidence.undecided("both starts with two seeds each", title)
    below = Contrast(-early.difference, early.error, early.df, early.n)
    verdict = judge_all_above({"early": below, "late": late}, evidence.alpha)
    if verdict is Verdict.REVERSED and below.p_above() < evidence.alpha:
        verdict = Verdict.NOT_REPRODUCED  # it begins below, and stays there
    ours = f"first third {difference(early, evidence.alpha)}; last third {difference(late, evidence.alpha)}"
    start, end = published.CROSSOVER_EPOCHS
    effect = Effect(late, evidence.alpha)
    paper = f"at epoch {start} to {end}"
    return Claim(title, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)


def _judge_nearness(rule: str, evidence: Evidence) -> Claim:
    """Judge that the accuracy rises with the nearness of a lognormal start to the equilibrium CCV."""
    title = f"The nearer a lognormal start is to the equilibrium, the better ({rule} growth)"
    cells = _cells_of(evidence.runs, rule)
    layout = evidence.layout()
    # the slope over -1, -0.5 and 0, in points per unit of CCV: the middle one has no weight
    trend = _subtract(layout, cells, "equilibrium", "equilibrium -1.0") if set(_STARTS) <= set(cells) else None
    if trend is None:
        return evidence.undecided("three starts with two seeds each", title)
    verdict = judge_all_above({"trend": trend}, evidence.alpha, evidence.margin("accuracy"))
    ranked = [
        [layout.values[cells[start], seed] for start in _STARTS]
        for seed in layout.seeds
        if all((cells[start], seed) in layout.values for start in _STARTS)
    ]
    page = stats.page_trend_test(np.array(ranked)).pvalue if len(ranked) > 1 else math.nan
    ours = f"equilibrium − (equilibrium − 1): {difference(trend, evidence.alpha)}; Page's p {p_value(float(page))}"
    effect = Effect(trend, evidence.alpha)
    return Claim(title, evidence.title, verdict, ours, "rising", basis=evidence.basis, effect=effect)


def _judge_erk(rule: str, assessment: Assessment, evidence: Evidence) -> Claim:
    """Judge that the accuracy from ERK is below that of every other start and of the static random network.

    The static network is that of the plan's look of the same number, or an older one beside older starts: both have
    the same scale of the first weights. Without it the claim cannot be reproduced.
    """
    title = f"ERK is the worst start, below the static random network as well ({rule} growth)"
    cells = _cells_of(evidence.runs, rule)
    layout = evidence.layout()
    found = {
        start: contrast
        for start in cells
        if start != "erk" and (contrast := _subtract(layout, cells, start, "erk")) is not None
    }
    if len(found) < 2:
        return evidence.undecided("ERK and two others with two seeds each", title)
    static = _find_static_random(assessment, evidence)
    erk = [value for (cell, _), value in layout.values.items() if cell == cells["erk"]]
    if len(static) > 1:
        values = list(static.by_seed(evidence.analysis.measure).values())
        beside = welch(values, statistics.fmean(erk), statistics.stdev(erk), len(erk))
        assert beside is not None
        found["static random"] = beside
    verdict = judge_all_above(found, evidence.alpha)
    if verdict is Verdict.REPRODUCED and "static random" not in found:
        verdict = Verdict.OPEN
    ours = "; ".join(f"{name} − ERK {difference(contrast, evidence.alpha)}" for name, contrast in found.items())
    if "static random" not in found:
        ours += "; static random not run"
    paper = f"ERK {published.FOREST_ERK}, static random {published.FOREST_STATIC_RANDOM}"
    effect = Effect(min(found.values(), key=lambda contrast: contrast.difference), evidence.alpha)
    return Claim(title, evidence.title, verdict, ours, paper, basis=evidence.basis, effect=effect)


def _find_static_random(assessment: Assessment, evidence: Evidence) -> Runs:
    """Find the static random networks beside starts: of the plan's look of the same number, or older ones."""
    if not evidence.look:
        return assessment.runs.of("static", evidence.data).having({"profile": "random"})
    looks = assessment.looks(evidence.claim.name, evidence.data, "static-linear")
    same = [look.runs for look in looks if look.look == evidence.look]
    return same[0].having({"profile": "random"}) if same else Runs([])
