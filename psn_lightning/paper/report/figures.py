"""Figures of the paper, drawn from the record; figures without runs are left out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from psn_lightning.commands.topology_figures import draw_mask
from psn_lightning.figure_style import styled
from psn_lightning.paper.report import published
from psn_lightning.paper.report.axes import draw_means, make_axes
from psn_lightning.paper.report.claim_figures import effects_figure, noise_figure
from psn_lightning.paper.report.equilibrium_figures import law_figure, settled_figure, share_figure
from psn_lightning.paper.report.heterogeneity_figures import accuracy_figure, gradient_figure, multipeak_figure
from psn_lightning.paper.report.law import fits, layers
from psn_lightning.paper.report.method_figures import draw_methods
from psn_lightning.paper.report.paper_tables import by_spreading
from psn_lightning.paper.report.runs import Runs, curve, metric
from psn_lightning.paper.report.tables import LEVEL
from psn_lightning.paper.report.verdicts import Claim
from psn_lightning.topology import Bell, Exponential, LayerBudget, Linear, Lognormal, Quadratic, spread
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound

mpl.use("Agg")

_MARGIN = 0.3  # points; of the analysis plan
_START_COLOURS = {"erk": "C0", "lognormal": "C1", "equilibrium": "C1"}


@dataclass(frozen=True)
class Picture:
    """Figure with its caption."""

    name: str
    """Name of the file, without suffix."""
    caption: str
    """Caption, in plain text."""
    figure: Figure
    """Matplotlib figure."""


def pictures(runs: Runs, claims: Sequence[Claim]) -> Iterator[Picture]:
    """Draw all figures that have runs: over all claims, then in the order of the paper.

    Args:
        runs: Recorded runs.
        claims: Claims with their verdicts.
    """
    effects, noise = effects_figure(claims), noise_figure(runs)
    if effects is not None:
        yield Picture("effects", "Effect of every claim about a difference: ours, and the paper's.", effects)
    if noise is not None:
        yield Picture("noise", "Noise between seeds by estimator, and from epoch to epoch within a run.", noise)
    yield Picture("profiles", "Fan-in of the profiles and a mask, 784 → 1024 at 90%.", _draw_profiles())
    for name, reproduction, caption, draw in _PICTURES:
        own = runs.of(reproduction)
        if own:
            yield Picture(name, caption, draw(own))
    if runs.of("equilibrium-combinations"):
        caption = "Table 4, every cell: canonical RigL, and RigL whose growth does not see absent connections."
        yield Picture("settled", caption, settled_figure(runs))
    if runs.of("equilibrium") or runs.of("table4"):
        caption = "Table 4 against √(1 − q) of the two-level bound under ERK's allocation, q fitted to each data set."
        yield Picture("share-of-bound", caption, share_figure(runs))
    yield from (Picture(*drawn) for drawn in draw_methods(runs))
    measured = layers(runs)
    if fits(measured):
        yield Picture("law", "Where canonical RigL ended in every layer, and the simplest law.", law_figure(measured))


@styled
def _draw_profiles() -> Figure:
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
def _draw_static(runs: Runs) -> Figure:
    """Draw the differences of the profiles to the random one with 95% intervals, and the margin."""
    data = runs.data()
    figure, axes = make_axes(len(data), 4.2)
    for axis, name in zip(axes, data, strict=True):
        own = runs.of("static", name)
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
def _draw_sparsity(runs: Runs) -> Figure:
    """Draw the accuracy over the sparsity, by profile and spreading."""
    groups = by_spreading(runs)
    figure, axes = make_axes(len(groups), 6)
    for axis, (spreading, own) in zip(axes, groups.items(), strict=True):
        sparsities = sorted(own.values("sparsity"), key=lambda s: float(published.as_printed(s)))
        for place, profile in enumerate(own.values("profile")):
            colour = f"C{place}"
            cells = {s: own.having({"sparsity": s, "profile": profile}) for s in sparsities}
            draw_means(axis, {sparsities.index(s): c for s, c in cells.items() if c}, profile, colour)
            rows = [published.MNIST_SPARSITY[published.as_printed(s)] for s in sparsities]
            if profile in rows[0]:
                axis.plot([row[profile] for row in rows], linestyle=":", color=colour, alpha=0.7)
        axis.set_xticks(range(len(sparsities)), sparsities)
        axis.set(xlabel="sparsity, %", ylabel="accuracy, %", title=f"{spreading} spreading (dotted: the paper)")
        axis.legend(fontsize="x-small")
    return figure


@styled
def _draw_trajectories(runs: Runs) -> Figure:
    """Draw the fan-in CCV over the epochs of RigL, by sparsity and start."""
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
def _draw_curves(runs: Runs) -> Figure:
    """Draw the training curves of two starts, and their difference."""
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
def _draw_starts(runs: Runs) -> Figure:
    """Draw the accuracy of RigL over the sparsity, by start."""
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
def _draw_variants(runs: Runs) -> Figure:
    """Draw the final fan-in CCV of the variants of RigL, by layer."""
    own = runs.of("equilibrium-variants", runs.data()[0])
    names = own.values("variant")
    figure, (axis,) = make_axes(width=8, height=0.32 * len(names) + 1.2)
    for row, name in enumerate(names):
        cell = own.having({"variant": name})
        for layer, marker in (("fc1", "o"), ("fc2", "s")):
            values = [metric(f"fan_in/ccv/{layer}")(run) for run in cell.all]
            axis.plot(
                values,
                [row] * len(values),
                marker,
                color="C0" if layer == "fc1" else "C1",
                label=layer if row == 0 else None,
            )
    axis.axvline(PAPER_TABLE_4[own.all[0].data][0.9], linestyle="--", color="black", label="the paper")
    axis.axvline(two_level_bound(0.9), color="C3", linewidth=1, label="two-level bound")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlabel="fan-in CCV after the last epoch", title=own.dataset(), xlim=(0, None))
    axis.legend(fontsize="small")
    return figure


_PICTURES: list[tuple[str, str, str, Callable[[Runs], Figure]]] = [
    (
        "static",
        "static",
        "Static profiles at 90%: difference to random, 95% interval; green: ± the margin.",
        _draw_static,
    ),
    ("sparsity", "mnist-sparsity", "Accuracy against sparsity on MNIST, 95% intervals.", _draw_sparsity),
    ("multipeak", "multipeak", "Figure 2: multi-peak profiles, from one hub cluster to uniformity.", multipeak_figure),
    (
        "accuracy-over-ccv",
        "multipeak",
        "Multi-peak profiles: accuracy against fan-in CCV, regression with seed as block and its 95% band.",
        accuracy_figure,
    ),
    ("gradient", "gradient", "Gradient ratio against fan-in CCV.", gradient_figure),
    (
        "trajectories",
        "equilibrium",
        "Fan-in CCV over RigL's epochs, mean over the layers, by start.",
        _draw_trajectories,
    ),
    (
        "variants",
        "equilibrium-variants",
        "What each choice of an implementation makes of the CCV at 90%.",
        _draw_variants,
    ),
    ("curves", "fashion-10-seeds", "Training curves of RigL from two starts, and where they cross.", _draw_curves),
    ("starts", "rigl-init", "Figure 3: RigL's starts against sparsity, 95% intervals.", _draw_starts),
]
"""Name of the file, reproduction, caption and drawing function of each figure."""
