"""Claims of the paper about RigL: its equilibrium CCV (std / mean of the fan-in), and the best start."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from psn_lightning.paper.record import RecordedRun
from psn_lightning.paper.report import published
from psn_lightning.paper.report.runs import Runs, metric
from psn_lightning.paper.report.static_claims import compared
from psn_lightning.paper.report.statistics import LEVEL, Paired, against, holm, paired
from psn_lightning.paper.report.verdicts import (
    Claim,
    Verdict,
    advantage,
    all_above,
    all_the_same,
    difference,
    farthest,
    number,
    p_value,
    unrun,
)
from psn_lightning.topology.equilibrium import PAPER_TABLE_4

CCV_MARGIN = 0.1
"""Margin within which two equilibrium CCVs count as equal; the paper prints two digits."""

_CCV = metric("fan_in/ccv")
_EARLY = 5  # first epochs, whose mean accuracy is compared


def dynamic_claims(runs: Runs) -> Iterator[Claim]:
    """Judge the claims about Table 4, the ten seeds, Figure 3 and the crossover.

    Args:
        runs: Recorded runs.
    """
    equilibria = runs.of("equilibrium")
    for data in equilibria.data() or ["fashion"]:
        own = runs.of("equilibrium", data)
        yield _judge_independence(own, data)
        yield _judge_values(own, data)
    yield from _judge_ten_seeds(runs.of("fashion-10-seeds"))
    for data in published.DATA:
        own = runs.of("rigl-init", data).having({"model.sparsity": 0.9})
        if data in published.ADVANTAGE and (own or data != "fashion"):
            yield _judge_advantage(own, data)
        if data == "forest":
            yield _judge_erk(own, runs.of("static", data).having({"profile": "random"}))
        elif own:
            yield _judge_nearness(own)


def _judge_independence(runs: Runs, data: str) -> Claim:
    """Judge that the final CCVs from ERK and from lognormal masks are equal."""
    title = "RigL's equilibrium CCV does not depend on the start"
    comparisons: dict[str, Paired] = {}
    ends: list[str] = []
    for sparsity in sorted(runs.values("model.sparsity")):
        own = runs.having({"model.sparsity": sparsity})
        found = compared(own, "start", "erk", CCV_MARGIN, _CCV)
        comparisons |= {f"{sparsity:.0%}": comparison for comparison in found.values()}
        if found:
            means = [
                statistics.fmean(own.having({"start": start}).by_seed(_CCV).values()) for start in ("erk", "lognormal")
            ]
            ends.append(f"{sparsity:.0%}: {number(means[0])} from ERK, {number(means[1])} from lognormal 1.0")
    if not comparisons:
        return unrun(title, runs.dataset() or published.DATA[data], "two starts with two seeds each are needed")
    name, worst = farthest(comparisons)
    ours = f"final CCV at {'; '.join(ends)}; farthest at {name}: {difference(worst)}"
    return Claim(title, runs.dataset(), all_the_same(comparisons), ours)


def _judge_values(runs: Runs, data: str) -> Claim:
    """Judge that the final CCVs from ERK are those of Table 4."""
    title = "RigL's equilibrium CCV is that of Table 4"
    comparisons: dict[str, Paired] = {}
    for sparsity, printed in PAPER_TABLE_4[data].items():
        own = runs.having({"model.sparsity": sparsity, "start": "erk"})
        comparison = against(list(own.by_seed(_CCV).values()), printed, CCV_MARGIN)
        if comparison is not None:
            comparisons[f"{sparsity:.0%}"] = comparison
    if not comparisons:
        return unrun(title, runs.dataset() or published.DATA[data], "two seeds from ERK are needed")
    rows = ", ".join(
        f"{number(PAPER_TABLE_4[data][float(name[:-1]) / 100] + c.difference)} at {name} (paper: "
        f"{number(PAPER_TABLE_4[data][float(name[:-1]) / 100])})"
        for name, c in comparisons.items()
    )
    n = min(comparison.n for comparison in comparisons.values())
    return Claim(title, runs.dataset(), all_the_same(comparisons), f"{rows}, n = {n}, from ERK")


def _judge_ten_seeds(runs: Runs) -> Iterator[Claim]:
    """Judge the advantage of the lognormal start with ten seeds, and the crossover of the training curves."""
    claimed = published.ADVANTAGE["fashion"]
    title = f"A lognormal start at the equilibrium beats ERK by {claimed} points, ten seeds"
    data = runs.dataset() or published.DATA["fashion"]
    found = compared(runs, "start", "erk").get("equilibrium")
    if found is None:
        yield unrun(title, data, "both starts with two seeds each are needed")
        return
    tests = f"t-test p {p_value(found.p_t)}, Wilcoxon p {p_value(found.p_wilcoxon)}, d {number(found.cohens_d)}"
    ours = f"{difference(found)}; {tests}; detectable: {number(found.detectable)}"
    yield Claim(title, data, advantage(found, claimed), ours)
    yield _judge_crossover(runs, data)


def curve(run: RecordedRun) -> Sequence[float]:
    """Test accuracy of a run after each epoch, in per cent."""
    return [100 * value for value in run.curves["test/accuracy"]]


def _judge_crossover(runs: Runs, data: str) -> Claim:
    """Judge that the accuracy from the equilibrium is lower at first, and higher from the printed epoch on."""
    first, last = published.CROSSOVER_EPOCHS
    title = f"The start at the equilibrium begins below ERK and overtakes it at epoch {first} to {last}"
    curves = {
        start: {run.seed: curve(run) for run in runs.having({"start": start}).all} for start in ("equilibrium", "erk")
    }
    seeds = sorted(set(curves["equilibrium"]) & set(curves["erk"]))
    first_epochs = {
        start: {seed: statistics.fmean(own[seed][:_EARLY]) for seed in seeds} for start, own in curves.items()
    }
    early = paired(first_epochs["equilibrium"], first_epochs["erk"])
    if early is None:
        return unrun(title, data, "both starts with two seeds each are needed")
    epochs = range(min(len(curves[start][seed]) for start in curves for seed in seeds))
    ahead = [
        statistics.fmean(curves["equilibrium"][seed][e] - curves["erk"][seed][e] for seed in seeds) > 0 for e in epochs
    ]
    behind = [epoch for epoch in epochs if not ahead[epoch]]
    crossing = behind[-1] + 2 if behind else 1  # epochs are counted from 1
    below = early.p_t < LEVEL and early.difference < 0
    verdict = Verdict.OPEN
    if (early.p_t < LEVEL and early.difference > 0) or (below and not first <= crossing <= last):
        verdict = Verdict.NOT_REPRODUCED
    elif below:
        verdict = Verdict.REPRODUCED
    overtaken = f"ahead for good from epoch {crossing}" if ahead[-1] else "behind at the end"
    return Claim(title, data, verdict, f"mean of epochs 1 to {_EARLY}: {difference(early)}; {overtaken}")


def _judge_advantage(runs: Runs, data: str) -> Claim:
    """Judge the advantage of the lognormal start over ERK."""
    claimed = published.ADVANTAGE[data]
    title = f"A lognormal start at the equilibrium beats ERK by {claimed} points"
    found = compared(runs, "start", "erk").get("equilibrium")
    if found is None:
        return unrun(title, runs.dataset() or published.DATA[data], "both starts with two seeds each are needed")
    ours = f"{difference(found)}; t-test p {p_value(found.p_t)}; detectable: {number(found.detectable)}"
    return Claim(title, runs.dataset(), advantage(found, claimed), ours)


def _judge_erk(runs: Runs, static: Runs) -> Claim:
    """Judge that the accuracy from ERK is below that of every other start and of the static random network."""
    title = "ERK is the worst start, below the static random network as well"
    erk = runs.having({"start": "erk"}).by_seed()
    others = compared(runs, "start", "erk")
    beside = paired(static.by_seed(), erk)
    if beside is not None:
        others["static random"] = beside
    if len(others) < 2:
        data = runs.dataset() or published.DATA["forest"]
        return unrun(title, data, "ERK and two others with two seeds each are needed")
    corrected = holm([comparison.p_t for comparison in others.values()])
    ours = "; ".join(
        f"{name} − ERK: {difference(comparison)}, p {p_value(p)}"
        for (name, comparison), p in zip(others.items(), corrected, strict=True)
    )
    return Claim(title, runs.dataset(), all_above(others), ours)


def _judge_nearness(runs: Runs) -> Claim:
    """Judge that the accuracy rises with every step towards the equilibrium CCV."""
    title = "The nearer a lognormal start is to the equilibrium CCV, the better"
    order = ["equilibrium -1.0", "equilibrium -0.5", "equilibrium"]
    accuracies = [runs.having({"start": start}).by_seed() for start in order]
    steps = {
        f"{nearer} − {farther}": comparison
        for nearer, farther, comparison in zip(order[1:], order, map(paired, accuracies[1:], accuracies), strict=False)
        if comparison is not None
    }
    if len(steps) < 2:
        return unrun(title, runs.dataset(), "three starts with two seeds each are needed")
    ours = "; ".join(f"{name}: {difference(comparison)}" for name, comparison in steps.items())
    return Claim(title, runs.dataset(), all_above(steps), ours)
