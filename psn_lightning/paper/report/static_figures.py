"""Figures of the static topologies: profiles, their accuracies, and sparsity."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from psn_lightning.commands.topology_figures import draw_mask
from psn_lightning.figure_style import PALETTE, styled
from psn_lightning.paper.report import published
from psn_lightning.paper.report.axes import draw_means, make_axes
from psn_lightning.paper.report.paper_tables import by_spreading
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.tables import LEVEL
from psn_lightning.topology import Bell, Exponential, LayerBudget, Linear, Lognormal, Quadratic, spread

_MARGIN = 0.3  # points; of the analysis plan


@styled
def profiles_figure() -> Figure:
    """Draw the fan-in of the profiles, and a mask."""
    figure, (left, right) = make_axes(2)
    budget, rng = LayerBudget(n_in=784, n_out=1024, sparsity=0.9), np.random.default_rng(42)
    for family in (Linear(), Quadratic(), Exponential(), Bell(), Lognormal(1.0)):
        left.plot(family.fan_in(budget, rng), label=type(family).__name__.lower())
    left.set(xlabel="neuron", ylabel="fan-in", ylim=(0, None), title="Profiles")
    left.legend(fontsize="small")
    layer = spread(Exponential().fan_in(budget, rng), 784, "even", rng)
    right.grid(visible=False)
    draw_mask(right, layer)
    right.set_title("Mask of the exponential one, even spreading")
    return figure


@styled
def static_figure(runs: Runs) -> Figure:
    """Draw the differences of the profiles to the random one with 95% intervals, and the margin.

    Args:
        runs: Runs of one reproduction.
    """
    data = runs.data()
    figure, axes = make_axes(len(data), 4.2)
    for axis, name in zip(axes, data, strict=True):
        own = Runs(run for run in runs.all if run.data == name)
        layout = own.layout("profile")
        contrasts = layout.against("random") if "random" in layout.cells else {}
        for row, (profile, contrast) in enumerate(contrasts.items()):
            low, high = contrast.interval(LEVEL)
            error = [[contrast.difference - low], [high - contrast.difference]]
            axis.errorbar(contrast.difference, row, xerr=error, fmt="o", capsize=3, color="C0")
            axis.text(-0.02, row, profile, transform=axis.get_yaxis_transform(), ha="right", va="center")
        axis.axvspan(-_MARGIN, _MARGIN, alpha=0.12, color="C2")
        axis.axvline(0, color="grey", linewidth=1)
        axis.set(title=own.dataset(), xlabel="accuracy − random, points", yticks=[])
        axis.invert_yaxis()
    return figure


@styled
def sparsity_figure(runs: Runs) -> Figure:
    """Draw the accuracy over the sparsity, by profile and spreading.

    Args:
        runs: Recorded runs.
    """
    groups = by_spreading(runs)
    figure, axes = make_axes(len(groups), 6)
    for axis, (spreading, own) in zip(axes, groups.items(), strict=True):
        sparsities = sorted(own.values("sparsity"), key=lambda s: float(published.as_printed(s)))
        for place, profile in enumerate(own.values("profile")):
            colour, marker = f"C{place}", "os"[place // len(PALETTE) % 2]  # colours come again with another marker
            cells = {s: own.having({"sparsity": s, "profile": profile}) for s in sparsities}
            draw_means(axis, {sparsities.index(s): c for s, c in cells.items() if c}, profile, colour, marker)
            rows = [published.MNIST_SPARSITY[published.as_printed(s)] for s in sparsities]
            if profile in rows[0]:
                axis.plot([row[profile] for row in rows], linestyle=":", color=colour, alpha=0.7)
        axis.set_xticks(range(len(sparsities)), sparsities)
        axis.set(xlabel="sparsity, %", ylabel="accuracy, %", title=f"{spreading} spreading (dotted: the paper)")
        axis.legend(fontsize="x-small")
    return figure
