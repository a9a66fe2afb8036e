"""Figures over the heterogeneity of the fan-in: multi-peak profiles, accuracy, gradient ratio."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from scipy import stats
from statsmodels.regression.linear_model import OLS

from psn_lightning.figure_style import styled
from psn_lightning.paper.report.axes import draw_means, make_axes
from psn_lightning.paper.report.paper_tables import PEAKS, SHARPNESS
from psn_lightning.paper.report.runs import Runs, accuracy, metric, name_cell
from psn_lightning.paper.report.tables import LEVEL

_CCV = metric("fan_in/ccv")


@styled
def multipeak_figure(runs: Runs) -> Figure:
    """Draw accuracy and fan-in CCV of the multi-peak profiles over the number of peaks.

    Args:
        runs: Runs of the multi-peak family.
    """
    figure, (flat, ccv) = make_axes(2)
    for kappa in sorted(runs.values(SHARPNESS), reverse=True):
        own = runs.having({SHARPNESS: kappa})
        cells = {peaks: own.having({PEAKS: peaks}) for peaks in sorted(own.values(PEAKS))}
        draw_means(flat, cells, f"κ = {kappa:g}")
        values = [_CCV(cell.all[0]) for cell in cells.values()]
        ccv.plot(list(cells), values, "o-", markersize=4, label=f"κ = {kappa:g}")
    flat.set(xlabel="peaks", ylabel="accuracy, %", xscale="log", title="Accuracy")
    ccv.set(xlabel="peaks", ylabel="fan-in CCV", xscale="log", title="Heterogeneity")
    flat.legend(fontsize="small")
    return figure


@styled
def accuracy_figure(runs: Runs) -> Figure:
    """Draw the accuracy of every run over its fan-in CCV, and the regression with its 95% band, seed as block.

    Args:
        runs: Runs of the multi-peak family.
    """
    figure, (axis,) = make_axes()
    seeds = sorted({run.seed for run in runs.all})
    x, y = (np.array([measure(run) for run in runs.all]) for measure in (_CCV, accuracy))
    blocks = np.array([[run.seed == seed for seed in seeds] for run in runs.all], dtype=float)
    fit = OLS(y, np.column_stack([blocks, x])).fit()
    effects = fit.params[:-1]
    y = y - blocks @ (effects - effects.mean())
    axis.scatter(x, y, s=10, alpha=0.4, color="C0")
    cells: dict[str, list[tuple[float, float]]] = {}
    for run, value in zip(runs.all, y, strict=True):
        cells.setdefault(name_cell(run.cell), []).append((_CCV(run), float(value)))
    means = np.array([np.mean(points, axis=0) for points in cells.values()])
    axis.plot(means[:, 0], means[:, 1], "o", markersize=5, color="C0", label="means of cells")
    if len(set(x)) > 2:
        grid = np.linspace(x.min(), x.max(), 50)
        line = fit.get_prediction(np.column_stack([np.full((50, len(seeds)), 1 / len(seeds)), grid]))
        axis.plot(grid, line.predicted_mean, color="C1", label=f"{fit.params[-1]:+.2f} points per unit of CCV")
        axis.fill_between(grid, *line.conf_int(alpha=LEVEL).T, color="C1", alpha=0.2, linewidth=0)
    axis.set(xlabel="fan-in CCV", ylabel="accuracy, %, seed effects removed")
    axis.legend(fontsize="small")
    return figure


@styled
def gradient_figure(runs: Runs) -> Figure:
    """Draw the gradient ratio over the fan-in CCV, on a linear and on a logarithmic axis.

    Args:
        runs: Runs of one experiment.
    """
    figure, (linear, log) = make_axes(2)
    x, y = ([m(run) for run in runs.all] for m in (_CCV, metric("gradient/ratio")))
    logarithm = [math.log(value) for value in y]
    for axis, values, scale in zip((linear, log), (y, logarithm), ("linear", "log"), strict=True):
        axis.scatter(x, y, s=14, alpha=0.6)
        words = f", r = {stats.pearsonr(x, values).statistic:.2f} over runs" if len(set(x)) > 2 else ""
        axis.set(xlabel="fan-in CCV", ylabel="gradient ratio", yscale=scale, title=f"{scale}{words}")
    return figure
