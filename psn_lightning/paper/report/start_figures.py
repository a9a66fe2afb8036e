"""Figures of RigL's starts: fan-in and accuracy over the epochs and over sparsity."""

from __future__ import annotations

import statistics

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from psn_lightning.figure_style import styled
from psn_lightning.paper.report import published
from psn_lightning.paper.report.axes import draw_means, make_axes
from psn_lightning.paper.report.runs import Runs, curve, name_cell
from psn_lightning.paper.report.tables import LEVEL
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound

_ROWS = ["equilibrium", "shuffled", "equilibrium -0.5", "equilibrium -1.0", "uniform"]
_START_COLOURS = {"erk": "C0", "lognormal": "C1", "equilibrium": "C1"}


@styled
def trajectories_figure(runs: Runs) -> Figure:
    """Draw the fan-in CCV over the epochs of RigL, by sparsity and start.

    Args:
        runs: Recorded runs.
    """
    data = runs.data()[0]
    own = runs.of("equilibrium", data)
    sparsities = sorted(own.values("model.sparsity"))
    figure, axes = make_axes(len(sparsities), 4)
    for axis, sparsity in zip(axes, sparsities, strict=True):
        for start in own.values("start"):
            for i, run in enumerate(own.having({"model.sparsity": sparsity, "start": start}).all):
                layers = [values for name, values in run.curves.items() if name.startswith("fan_in/ccv/")]
                mean = [statistics.fmean(epoch) for epoch in zip(*layers, strict=True)]
                label = f"from {start}" if i == 0 else None
                axis.plot(mean, color=_START_COLOURS[start], alpha=0.7, label=label)
        axis.axhline(PAPER_TABLE_4[data][sparsity], linestyle="--", color="black", label="the paper")
        axis.axhline(two_level_bound(sparsity), color="C3", linewidth=1, label="two-level bound")
        axis.set(title=f"{own.dataset()}, {sparsity:.0%}", xlabel="epoch", ylabel="fan-in CCV", ylim=(0, None))
        axis.legend(fontsize="x-small")
    return figure


@styled
def curves_figure(runs: Runs) -> Figure:
    """Draw the training curves of two starts, and their difference.

    Args:
        runs: Recorded runs.
    """
    figure, (axis, difference) = make_axes(2)
    by_seed = {}
    for start in runs.values("start"):
        by_seed[start] = {run.seed: np.array(curve(run)) for run in runs.having({"start": start}).all}
        curves = np.array(list(by_seed[start].values()))
        epochs = np.arange(1, curves.shape[1] + 1)
        mean = curves.mean(axis=0)
        axis.plot(epochs, mean, label=f"{start} ({len(curves)})", color=_START_COLOURS[start])
        if len(curves) > 1:
            quantile = float(stats.t.ppf(1 - LEVEL / 2, len(curves) - 1))
            error = quantile * curves.std(axis=0, ddof=1) / len(curves) ** 0.5
            axis.fill_between(epochs, mean - error, mean + error, alpha=0.2, color=_START_COLOURS[start])
    axis.set(xlabel="epoch", ylabel="accuracy, %", title="Mean over seeds, 95% band")
    axis.legend()
    seeds = sorted(set.intersection(*(set(own) for own in by_seed.values())))
    if len(by_seed) == 2 and seeds:
        gap = np.array([by_seed["equilibrium"][seed] - by_seed["erk"][seed] for seed in seeds])
        difference.plot(epochs, gap.T, color="grey", alpha=0.3, linewidth=1)
        difference.plot(epochs, gap.mean(axis=0), color="C1", marker="o", markersize=4)
    first, last = published.CROSSOVER_EPOCHS
    difference.axvspan(first, last, alpha=0.15, label="where the paper has the crossover")
    difference.axhline(0, color="black", linewidth=1)
    difference.set(xlabel="epoch", ylabel="equilibrium − ERK, points", title="Difference, pairs of a seed")
    difference.legend(fontsize="small")
    return figure


@styled
def starts_figure(runs: Runs) -> Figure:
    """Draw the accuracy of RigL over the sparsity, by start.

    Args:
        runs: Recorded runs.
    """
    data = runs.data()
    figure, axes = make_axes(len(data), 4.6)
    for axis, name in zip(axes, data, strict=True):
        own = runs.of("rigl-init", name)
        sparsities = sorted(own.values("model.sparsity"))
        for shift, start in enumerate(own.values("start")):
            cells = {s: own.having({"model.sparsity": s, "start": start}) for s in sparsities}
            places = {sparsities.index(s) + 0.06 * shift: cell for s, cell in cells.items() if cell}
            draw_means(axis, places, start)
        axis.set_xticks(range(len(sparsities)), [f"{s:.0%}" for s in sparsities])
        axis.set(title=own.dataset(), xlabel="sparsity", ylabel="accuracy, %")
        axis.legend(fontsize="x-small")
    return figure


@styled
def growth_figure(runs: Runs) -> Figure:
    """Draw the accuracy from every start minus that from ERK, by growth rule, with 95% intervals.

    Args:
        runs: Runs of ``starts``.
    """
    data = runs.data()
    figure, axes = make_axes(len(data), 4.6)
    for axis, name in zip(axes, data, strict=True):
        own = runs.of("starts", name)
        layout = own.layout()
        for colour, growth in (("C0", "canonical"), ("C1", "unseen")):
            cells = {run.cell["start"]: name_cell(run.cell) for run in own.having({"growth": growth}).all}
            found = {s: layout.difference(cell, cells["erk"]) for s, cell in cells.items() if {s, "erk"} <= set(cells)}
            shift = 0.12 if growth == "unseen" else -0.12
            for start, contrast in found.items():
                if start == "erk" or contrast is None:
                    continue
                low, high = contrast.interval(LEVEL)
                place = contrast.difference
                row = _ROWS.index(start) + shift
                axis.errorbar(place, row, xerr=[[place - low], [high - place]], fmt="o", capsize=3, color=colour)
            axis.plot([], [], "o", color=colour, label=f"{growth} growth")
        axis.set_yticks(range(len(_ROWS)), _ROWS)
        axis.axvline(0, color="grey", linewidth=1)
        axis.set(title=own.dataset(), xlabel="accuracy − ERK's, points", ylim=(len(_ROWS) - 0.5, -0.5))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize="small")
    return figure
