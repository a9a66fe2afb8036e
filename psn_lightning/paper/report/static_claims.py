"""Claims of the paper about static masks."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator

from psn_lightning.paper.report import published
from psn_lightning.paper.report.runs import Measure, Runs, accuracy, metric
from psn_lightning.paper.report.statistics import LEVEL, MARGIN, Paired, against, correlation, holm, paired
from psn_lightning.paper.report.verdicts import (
    Claim,
    Verdict,
    all_above,
    all_the_same,
    difference,
    farthest,
    interval,
    number,
    p_value,
    unrun,
)

_DENSE_MARGIN = 0.6  # points; "within 0.2 to 0.6% of dense baselines on every dataset"
_SPARSITY_MARGIN = 1.0  # points; "approximately 4%"


def static_claims(runs: Runs) -> Iterator[Claim]:
    """Judge the claims about Table 6, spreading, gradients, multi-peak profiles, sparsity and architecture.

    Args:
        runs: Recorded runs.
    """
    for data in published.STATIC:
        own = runs.of("static", data)
        name = own.dataset() or published.DATA[data]
        yield _judge_equality(own, name)
        yield _judge_superiority(own, name)
        yield _judge_loss(own, name)
        yield _judge_dense_accuracy(own, name, published.STATIC[data]["dense"])
    yield from _judge_spreading(runs.of("spreading"))
    yield _judge_gradient(runs.of("gradient"))
    yield from _judge_multipeak(runs.of("multipeak"))
    yield from _judge_sparsity(runs.of("mnist-sparsity"))
    yield _judge_third_layer(runs.of("architecture"))


def compared(
    runs: Runs, key: str, baseline: str, margin: float = MARGIN, measure: Measure = accuracy
) -> dict[str, Paired]:
    """Compare every value of a setting with a baseline, paired over the seeds.

    Args:
        runs: Runs of one reproduction and data set.
        key: Setting, a key of the cells.
        baseline: Value that the others are compared with.
        margin: Largest difference that counts as equal, in the unit of the measure.
        measure: Measure to compare; by default the test accuracy in per cent.

    Returns:
        Comparisons by value; values with fewer than two seeds in common with the baseline are left out.
    """
    base = runs.having({key: baseline}).by_seed(measure)
    comparisons = {}
    for value in runs.values(key):
        own = runs.having({key: value}).by_seed(measure)
        comparison = paired(own, base, margin)
        if comparison is not None and value != baseline:
            comparisons[str(value)] = comparison
    return comparisons


def _compare_profiles(runs: Runs, margin: float = MARGIN, baseline: str = "random") -> dict[str, Paired]:
    """Compare the sparse profiles with the random one, or with the dense network."""
    comparisons = compared(runs, "profile", baseline, margin)
    return {profile: comparison for profile, comparison in comparisons.items() if profile != "dense"}


def _judge_equality(runs: Runs, data: str) -> Claim:
    """Judge that every static profile equals the random one."""
    title = f"Static profiles equal random, within {MARGIN} points (TOST)"
    comparisons = _compare_profiles(runs)
    if not comparisons:
        return unrun(title, data, "random and one profile with two seeds each are needed")
    name, worst = farthest(comparisons)
    p = max(comparison.p_equivalent for comparison in comparisons.values())
    least = max(comparison.detectable for comparison in comparisons.values())
    ours = (
        f"{len(comparisons)} profiles, farthest {name}: {difference(worst)}; TOST p ≤ {p_value(p)}; "
        f"detectable: {number(least)}"
    )
    return Claim(title, data, all_the_same(comparisons), ours)


def _judge_superiority(runs: Runs, data: str) -> Claim:
    """Judge that no static profile is better than the random one."""
    title = "No static profile beats random (p < 0.05)"
    comparisons = _compare_profiles(runs)
    if not comparisons:
        return unrun(title, data, "random and one profile with two seeds each are needed")
    corrected = dict(zip(comparisons, holm([c.p_t for c in comparisons.values()]), strict=True))
    beats = any(c.difference > 0 and corrected[name] < LEVEL for name, c in comparisons.items())
    verdict = Verdict.OPEN
    if beats:
        verdict = Verdict.NOT_REPRODUCED
    elif all(c.high < MARGIN for c in comparisons.values()):  # a lack of significance alone does not support the claim
        verdict = Verdict.REPRODUCED
    name, best = max(comparisons.items(), key=lambda entry: entry[1].difference)
    return Claim(title, data, verdict, f"best: {name} {difference(best)}; Holm's p {p_value(corrected[name])}")


def _judge_loss(runs: Runs, data: str) -> Claim:
    """Judge that the static profiles are close to the dense network."""
    title = f"Static networks at 90% are within {_DENSE_MARGIN} points of dense"
    comparisons = _compare_profiles(runs, _DENSE_MARGIN, "dense")
    if not comparisons:
        return unrun(title, data, "dense and one profile with two seeds each are needed")
    name, worst = farthest(comparisons)
    return Claim(title, data, all_the_same(comparisons), f"farthest: {name} {difference(worst)}")


def _judge_dense_accuracy(runs: Runs, data: str, printed: float) -> Claim:
    """Judge that the dense network has the printed accuracy."""
    title = f"The dense network reaches {printed}%"
    values = list(runs.having({"profile": "dense"}).by_seed().values())
    comparison = against(values, printed)
    if comparison is None:
        return unrun(title, data, "dense with two seeds is needed")
    ours = f"{number(statistics.fmean(values))}%, that is {difference(comparison)}"
    if not runs.complete():
        return Claim(title, data, Verdict.OPEN, f"{ours}, on other rows than the paper's")
    return Claim(title, data, all_the_same({"dense": comparison}), ours)


def _judge_spreading(runs: Runs) -> Iterator[Claim]:
    """Judge the loss of sequential spreading, and that even and random spreading are equal."""
    data = runs.dataset() or published.DATA["mnist"]
    comparisons = compared(runs, "model.spreading", "even")
    title = "Sequential spreading loses 20 points or more"
    if "sequential" not in comparisons:
        yield unrun(title, data, "even and sequential with two seeds each are needed")
    else:
        loss = comparisons["sequential"]
        verdict = Verdict.OPEN
        if loss.high <= -20:
            verdict = Verdict.REPRODUCED
        elif loss.low > -20:
            verdict = Verdict.NOT_REPRODUCED
        printed = f"(paper: {number(published.SEQUENTIAL - published.SPREADING, 1)})"
        yield Claim(title, data, verdict, f"{difference(loss)} {printed}")
    title = f"Even and random spreading agree within {MARGIN} points (TOST)"
    if "random" not in comparisons:
        yield unrun(title, data, "even and random with two seeds each are needed")
    else:
        same = {"random": comparisons["random"]}
        ours = f"random − even: {difference(same['random'])}; TOST p {p_value(same['random'].p_equivalent)}"
        yield Claim(title, data, all_the_same(same), ours)


def _judge_gradient(runs: Runs) -> Claim:
    """Judge the correlation of gradient ratio and fan-in CCV over the profiles."""
    title = f"The gradient ratio follows the fan-in CCV, r = {published.GRADIENT_R}"
    data = runs.dataset() or published.DATA["mnist"]
    profiles = [runs.having({"profile": profile}) for profile in runs.values("profile")]
    means = [
        [statistics.fmean(own.by_seed(metric(name)).values()) for own in profiles]
        for name in ("fan_in/ccv", "gradient/ratio")
    ]
    found = correlation(*means)
    if found is None:
        return unrun(title, data, "four profiles are needed")
    verdict = Verdict.OPEN
    if found.high < published.GRADIENT_R:
        verdict = Verdict.NOT_REPRODUCED
    elif found.low > 0:
        verdict = Verdict.REPRODUCED
    also = correlation(means[0], [math.log(ratio) for ratio in means[1]])
    assert also is not None
    ours = (
        f"r = {number(found.r)} {interval(found.low, found.high)}, n = {found.n} profiles, {len(runs)} runs; "
        f"the ratio's logarithm: r = {number(also.r)} {interval(also.low, also.high)}"
    )
    return Claim(title, data, verdict, ours)


def _judge_multipeak(runs: Runs) -> Iterator[Claim]:
    """Judge the range of the accuracy over the multi-peak profiles."""
    title = f"Multi-peak profiles: accuracy is flat, range {published.MULTIPEAK_RANGE} points"
    data = runs.dataset() or published.DATA["mnist"]
    cells: dict[str, list[float]] = {}
    for run in runs.all:
        cells.setdefault(json.dumps(run.cell, sort_keys=True), []).append(accuracy(run))
    means = [statistics.fmean(values) for values in cells.values() if len(values) > 1]
    if len(means) < 2:
        yield unrun(title, data, "two cells with two seeds each are needed")
        return
    verdict = Verdict.REPRODUCED if max(means) - min(means) <= published.MULTIPEAK_RANGE else Verdict.NOT_REPRODUCED
    bounds = f"{number(max(means) - min(means))}: {number(min(means))} … {number(max(means))}%"
    yield Claim(title, data, verdict, f"range {bounds}, {len(means)} cells, {len(runs)} runs")


def _judge_sparsity(runs: Runs) -> Iterator[Claim]:
    """Judge the loss of accuracy with sparsity, and that a profile and its inverse are equal."""
    data = runs.dataset() or published.DATA["mnist"]
    for low, high, fall, margin in (("85", "98", 0.6, MARGIN), ("99", "ceiling", 4.2, _SPARSITY_MARGIN)):
        title = f"From {low} to {published.as_printed(high)}% accuracy falls by about {fall} points"
        sparser, denser = (_average_by_seed(runs.having({"sparsity": sparsity})) for sparsity in (high, low))
        measured = paired(sparser, denser)
        beyond = paired({seed: value + fall for seed, value in sparser.items()}, denser, margin)
        if measured is None or beyond is None:
            yield unrun(title, data, "two seeds at both are needed")
        else:
            yield Claim(title, data, all_the_same({high: beyond}), difference(measured))
    title = f"A profile and its inverse agree within {MARGIN} points (TOST)"
    inverses = [profile for profile in runs.values("profile") if profile.endswith(" inverse")]
    inverse, plain = (
        _average_by_seed(Runs(run for profile in profiles for run in runs.having({"profile": profile}).all))
        for profiles in (inverses, [profile.removesuffix(" inverse") for profile in inverses])
    )
    same = paired(inverse, plain)
    if same is None:
        yield unrun(title, data, "two seeds of both are needed")
    else:
        ours = f"{difference(same)}; TOST p {p_value(same.p_equivalent)} (paper: 0.01)"
        yield Claim(title, data, all_the_same({"inverse": same}), ours)


def _average_by_seed(runs: Runs) -> dict[int, float]:
    """Average the accuracy of each seed over the cells that all seeds have."""
    by_seed: dict[int, dict[str, float]] = {}
    for run in runs.all:
        by_seed.setdefault(run.seed, {})[json.dumps(run.cell, sort_keys=True)] = accuracy(run)
    common = set.intersection(*map(set, by_seed.values())) if by_seed else set()
    return {seed: statistics.fmean(cells[c] for c in sorted(common)) for seed, cells in by_seed.items() if common}


def _judge_third_layer(runs: Runs) -> Claim:
    """Judge the gain of a third hidden layer at every width."""
    low, high = published.THIRD_LAYER
    title = f"A third hidden layer gives {low} to {high} points at every width"
    data = runs.dataset() or published.DATA["forest"]
    gains = {}
    for hidden in runs.values("model.hidden"):
        widths = json.loads(hidden)
        two, three = (runs.having({"model.hidden": json.dumps(widths[:1] * depth)}).by_seed() for depth in (2, 3))
        gain = paired(three, two)
        if gain is not None:
            gains[str(widths[0])] = gain
    if not gains:
        return unrun(title, data, "one width with two and three layers and two seeds each is needed")
    verdict = all_above(gains)
    if verdict is Verdict.REPRODUCED and any(gain.high < low or gain.low > high for gain in gains.values()):
        verdict = Verdict.NOT_REPRODUCED
    return Claim(title, data, verdict, "; ".join(f"{width}: {difference(gain)}" for width, gain in gains.items()))
