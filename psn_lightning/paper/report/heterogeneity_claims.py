"""Claims of the paper about heterogeneous fan-in: gradients, and accuracy, over the fan-in CCV (std / mean)."""

from __future__ import annotations

import math
import statistics

import numpy as np
from scipy import stats

from psn_lightning.paper.report.evidence import Evidence
from psn_lightning.paper.report.layout import Layout
from psn_lightning.paper.report.runs import Runs, metric, name_cell
from psn_lightning.paper.report.verdicts import (
    Claim,
    Effect,
    Size,
    Verdict,
    difference,
    interval,
    judge_equality,
    number,
)

_RESAMPLES = 1999


def judge_gradient(evidence: Evidence) -> Claim:
    """Judge the correlation of gradient ratio and fan-in CCV over the cells.

    Args:
        evidence: Runs of the claim, and the plan.
    """
    ccv, ratio = (_average_cells(evidence.runs, name) for name in ("fan_in/ccv", "gradient/ratio"))
    if len(ccv) < 8:
        return evidence.undecided("eight cells")
    r = float(_pearson(ccv, ratio))
    found = stats.bootstrap(
        (ccv, ratio),
        _pearson,
        paired=True,
        n_resamples=_RESAMPLES,
        confidence_level=1 - evidence.alpha,
        rng=np.random.default_rng(0),
    ).confidence_interval
    printed = evidence.claim.paper["r"]
    verdict, size = Verdict.OPEN, Size.COMPATIBLE
    if found.high < printed:  # the plan's refutation
        verdict = Verdict.NOT_REPRODUCED
    elif found.low > 0:
        verdict = Verdict.REPRODUCED
    if not found.low <= printed <= found.high:
        size = Size.SMALLER if r < printed else Size.LARGER
    rank = float(stats.spearmanr(ccv, ratio).statistic)
    log = float(_pearson(ccv, np.log(ratio)))
    ours = (
        f"r = {number(r)} {interval(found.low, found.high)} over {len(ccv)} cells; of the ratio's logarithm "
        f"{number(log)}; ranks {number(rank)}; ratio up to {number(float(ratio.max()), 0)}"
    )
    return Claim(
        evidence.claim.claim, evidence.title, verdict, ours, f"r = {printed}", size, evidence.basis, of_accuracy=False
    )


def judge_multipeak(evidence: Evidence) -> Claim:
    """Judge that the cells of high CCV have the accuracy of those of low CCV.

    Args:
        evidence: Runs of the claim, and the plan.
    """
    layout = evidence.layout()
    ccv = {name_cell(run.cell): run.metrics["fan_in/ccv"] for run in evidence.runs.all}
    high, low = [c for c in layout.cells if ccv[c] > 2], [c for c in layout.cells if ccv[c] < 0.5]
    if not high or not low or layout.df < 1:
        return evidence.undecided("cells above CCV 2 and below 0.5 with two seeds each")
    contrast = layout.contrast({**dict.fromkeys(high, 1 / len(high)), **dict.fromkeys(low, -1 / len(low))})
    slope = layout.contrast(_weights_of_slope(ccv))
    assert contrast is not None
    assert slope is not None
    verdict = judge_equality({"high": contrast}, evidence.margin("accuracy"), evidence.alpha)
    means = _average_accuracies(layout)
    ours = (
        f"CCV above 2 − below 0.5: {difference(contrast, evidence.alpha)}; slope on CCV "
        f"{difference(slope, evidence.alpha)}; range of the means of {len(means)} cells "
        f"{number(max(means) - min(means))}, standard deviation of the true ones {number(_true_std(layout))}"
    )
    effect = Effect(contrast, evidence.alpha, evidence.margin("accuracy"))
    return Claim(evidence.claim.claim, evidence.title, verdict, ours, "range 0.65", basis=evidence.basis, effect=effect)


def _average_cells(runs: Runs, name: str) -> np.ndarray:
    """Average a metric over the seeds of each cell."""
    cells = {name_cell(run.cell): run.cell for run in runs.all}
    return np.array([statistics.fmean(runs.having(cell).by_seed(metric(name)).values()) for cell in cells.values()])


def _pearson(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Pearson's r along an axis."""
    x, y = x - x.mean(axis=axis, keepdims=True), y - y.mean(axis=axis, keepdims=True)
    r: np.ndarray = (x * y).sum(axis=axis) / np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))
    return r


def _weights_of_slope(x: dict[str, float]) -> dict[str, float]:
    """Weights of the cells whose weighted sum is the slope on x by least squares."""
    centred = {cell: value - statistics.fmean(x.values()) for cell, value in x.items()}
    total = sum(value**2 for value in centred.values())
    return {cell: value / total for cell, value in centred.items()}


def _average_accuracies(layout: Layout) -> list[float]:
    """Average the accuracy of each cell over its seeds."""
    return [statistics.fmean(v for (own, _), v in layout.values.items() if own == cell) for cell in layout.cells]


def _true_std(layout: Layout) -> float:
    """Estimate the standard deviation of the true cell means, with the noise of their estimates taken off."""
    noise = layout.residual_std**2 / len(layout.seeds)
    return math.sqrt(max(0.0, statistics.variance(_average_accuracies(layout)) - noise))
