"""Figures of RigL's equilibrium CCV (std / mean of the fan-in)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from psn_lightning.figure_style import styled
from psn_lightning.paper.report import published
from psn_lightning.paper.report.axes import make_axes
from psn_lightning.paper.report.equilibria import UNSEEN, bounds_under_erk
from psn_lightning.paper.report.law import THE_LAW, fits
from psn_lightning.paper.report.runs import Runs, metric
from psn_lightning.paper.report.settled_layers import Layer
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound

_MARKERS = {"mnist": "o", "fashion": "s", "emnist": "^", "forest": "D"}


@styled
def settled_figure(runs: Runs) -> Figure:
    """Draw the measured CCV over the CCV of Table 4: canonical RigL, and growth that does not see absent connections.

    Args:
        runs: Recorded runs.
    """
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axis = figure.subplots()
    kinds = {
        "canonical RigL, from ERK": ("C0", runs.of("equilibrium").having({"start": "erk"})),
        f"RigL, {UNSEEN}": ("C1", runs.of("equilibrium-combinations").having({"choices": UNSEEN})),
    }
    for label, (colour, own) in kinds.items():
        for data, printed, found in _pair_cells(own):
            axis.plot(printed, found, _MARKERS[data], color=colour, markersize=6, alpha=0.8)
        axis.plot([], [], "s", color=colour, label=label)
    for data, marker in _MARKERS.items():
        axis.plot([], [], marker, color="grey", label=data)
    axis.plot([0, 7], [0, 7], color="black", linewidth=1, label="as the paper says")
    axis.set(xlabel="fan-in CCV in the paper's Table 4", ylabel="fan-in CCV measured", xlim=(0, 6.5), ylim=(0, 6.5))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    return figure


def _pair_cells(runs: Runs) -> Iterator[tuple[str, float, float]]:
    """Pair the cells of Table 4 with the runs: data set, printed CCV, measured CCV."""
    for data in runs.data():
        for sparsity, printed in PAPER_TABLE_4[data].items():
            cell = Runs(run for run in runs.having({"model.sparsity": sparsity}).all if run.data == data)
            if cell:
                yield data, printed, statistics.fmean(cell.by_seed(metric("fan_in/ccv")).values())


def share_of_bound(data: str) -> tuple[dict[float, float], float]:
    """Compare a row of Table 4 with the two-level bound of the paper's network under ERK's allocation.

    Where growth has filled some neurons and left the others with one density, q times that of the layer, the CCV is
    √(1 − q) of the bound.

    Args:
        data: Short name of the data set.

    Returns:
        Bound by sparsity, mean over the hidden layers, and √(1 − q), the geometric mean of the printed CCV over the
        bound.
    """
    bounds = bounds_under_erk(data)
    return bounds, statistics.geometric_mean(PAPER_TABLE_4[data][s] / bound for s, bound in bounds.items())


@styled
def share_figure(runs: Runs) -> Figure:
    """Draw Table 4, and our runs whose growth does not see absent connections, over one constant share of the bound.

    Args:
        runs: Recorded runs.
    """
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axis = figure.subplots()
    errors = []
    for place, data in enumerate(PAPER_TABLE_4):
        bounds, share = share_of_bound(data)
        x = [share * bound for bound in bounds.values()]
        printed = list(PAPER_TABLE_4[data].values())
        errors += [value / predicted - 1 for value, predicted in zip(printed, x, strict=True)]
        label = f"{published.DATA[data]}: √(1 − q) = {share:.2f}"
        axis.plot(x, printed, _MARKERS[data], color=f"C{place}", label=label)
        own = runs.of("table4", data).having({"start": "erk"})
        for sparsity, bound in bounds.items():
            if cell := own.having({"model.sparsity": sparsity}):
                found = statistics.fmean(cell.by_seed(metric("fan_in/ccv")).values())
                axis.plot(
                    share * bound, found, _MARKERS[data], color="none", markeredgecolor=f"C{place}", markersize=10
                )
    axis.plot([], [], "o", color="none", markeredgecolor="grey", markersize=10, label="ours, unseen growth from ERK")
    rms = statistics.fmean(error**2 for error in errors) ** 0.5
    axis.plot([0, 6.5], [0, 6.5], color="black", linewidth=1, label=f"equal; rms error of the 16 cells {rms:.1%}")
    axis.set(xlabel="√(1 − q) × two-level bound under ERK", ylabel="fan-in CCV", xlim=(0, 6.5), ylim=(0, 6.5))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small")
    return figure


@styled
def law_figure(measured: Sequence[Layer]) -> Figure:
    """Draw the final CCV of canonical RigL in every layer over the law.

    Args:
        measured: Layers of canonical RigL, at least eight of four networks.
    """
    figure = Figure(figsize=(5.8, 5.2), layout="constrained")
    axis: Axes = figure.subplots()
    law = next(fit for fit in fits(measured) if fit.law == THE_LAW)
    for layer in measured:
        colour = {1: "C0", 2: "C1", 3: "C2"}[int(layer.name.removeprefix("fc"))]
        face = "none" if layer.choices.linear else colour
        axis.plot(law(layer), layer.ccv, _MARKERS[layer.data], color=face, markeredgecolor=colour, alpha=0.8)
    line = np.array([0.05, 2.0])
    axis.plot(line, line, color="black", linewidth=1, label=f"κ = {law.coefficients[0]:.2f}")
    label = f"within a factor of {law.error:.2f}"
    axis.fill_between(line, line / law.error, line * law.error, color="black", alpha=0.1, label=label)
    for name, colour in (("first layer", "C0"), ("second", "C1"), ("third", "C2")):
        axis.plot([], [], "o", color=colour, label=name)
    axis.plot([], [], "o", color="none", markeredgecolor="grey", label="nn.Linear's scale")
    for data in dict.fromkeys(layer.data for layer in measured):
        axis.plot([], [], _MARKERS[data], color="grey", label=published.DATA[data])
    axis.set(xscale="log", yscale="log", xlabel=f"CCV by the law {THE_LAW}", ylabel="fan-in CCV after the last epoch")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small")
    return figure


@styled
def variants_figure(runs: Runs) -> Figure:
    """Draw the final fan-in CCV of the variants of RigL, by layer.

    Args:
        runs: Recorded runs.
    """
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
