"""Figures of RigL's equilibrium CCV (std / mean of the fan-in)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from psn_lightning.paper.report.equilibria import UNSEEN
from psn_lightning.paper.report.law import THE_LAW, Layer, fits
from psn_lightning.paper.report.runs import Runs, metric
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound

_MARKERS = {"mnist": "o", "fashion": "s", "emnist": "^", "forest": "D"}


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


def law_figure(measured: Sequence[Layer]) -> Figure:
    """Draw the final CCV of canonical RigL in every layer, the law, and the two-level bound.

    Args:
        measured: Layers of canonical RigL, at least eight.
    """
    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axis: Axes = figure.subplots()
    for layer in measured:
        colour = {1: "C0", 2: "C1", 3: "C2"}[int(layer.name.removeprefix("fc"))]
        axis.plot(layer.sparsity / (1 - layer.sparsity), layer.ccv, _MARKERS[layer.data], color=colour, alpha=0.7)
    odds = np.geomspace(0.2, 60, 100)
    bound = np.array([two_level_bound(o / (1 + o)) for o in odds])
    law = next(fit for fit in fits(measured) if fit.law == THE_LAW)
    axis.plot(odds, law.coefficients[0] * bound, color="black", label=f"{law.coefficients[0]:.3f} of the bound")
    axis.fill_between(
        odds,
        law.coefficients[0] * bound / law.error,
        law.coefficients[0] * bound * law.error,
        color="black",
        alpha=0.1,
        label=f"within a factor of {law.error:.2f}",
    )
    axis.plot(odds, bound, color="tab:red", linewidth=1, label="two-level bound")
    for name, colour in (("first layer", "C0"), ("second", "C1"), ("third", "C2")):
        axis.plot([], [], "o", color=colour, label=name)
    axis.set(xscale="log", yscale="log", xlabel="s / (1 − s)", ylabel="fan-in CCV after the last epoch")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    return figure
