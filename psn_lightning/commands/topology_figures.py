"""Figures of topologies: profile, mask, fan-out, and fan-in CCV (std / mean of the fan-in) over the updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from psn_lightning.figure_style import styled
from psn_lightning.topology import Connectivity
from psn_lightning.topology.equilibrium import Trajectory, settlement, two_level_bound
from psn_lightning.topology.statistics import fan_in_ccv

_MASK_PIXELS = 256  # most bins of a mask on each axis: their densities are drawn, without a dense matrix


@styled
def topology_figure(layers: Mapping[str, Connectivity]) -> Figure:
    """Draw the fan-in over the neurons, the mask, and the fan-out over the inputs; a row for each sparse layer.

    Args:
        layers: Connectivity by layer name.
    """
    figure = Figure(figsize=(13, 3.6 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), 3, squeeze=False)
    for (name, connectivity), (profile, mask, fan_out) in zip(layers.items(), axes, strict=True):
        profile.fill_between(np.arange(connectivity.n_out), connectivity.fan_in, step="mid", alpha=0.75)
        profile.set(
            title=f"{name}: fan-in, CCV {fan_in_ccv(connectivity):.2f}",
            xlabel="neuron",
            ylabel="inputs",
            ylim=(0, None),
        )
        draw_mask(mask, connectivity)
        mask.set_title(f"{name}: mask, {connectivity.n_connections:,} connections")
        fan_out.fill_between(np.arange(connectivity.n_in), connectivity.fan_out, step="mid", alpha=0.75, color="C2")
        dead = int((connectivity.fan_out == 0).sum())
        fan_out.set(title=f"{name}: fan-out, {dead} dead inputs", xlabel="input", ylabel="neurons fed", ylim=(0, None))
    return figure


@styled
def fan_in_histogram(before: Mapping[str, Connectivity], after: Mapping[str, Connectivity]) -> Figure:
    """Draw the distribution of the fan-in before and after training; a panel for each sparse layer.

    Args:
        before: Connectivity before training, by layer name.
        after: Connectivity after training, by layer name.
    """
    figure, axes = _panels(len(before), 5, 3.6)
    for axis, name in zip(axes, before, strict=True):
        top = max(int(c[name].fan_in.max()) for c in (before, after))
        bins = np.linspace(-0.5, top + 0.5, min(top + 2, 60))
        for label, layers in (("before", before), ("after", after)):
            ccv = fan_in_ccv(layers[name])
            counts, _ = np.histogram(layers[name].fan_in, bins)
            axis.stairs(counts, bins, fill=True, alpha=0.55, label=f"{label}, CCV {ccv:.2f}")
        axis.set(title=name, xlabel="fan-in", ylabel="neurons", yscale="log")
        axis.legend()
    return figure


@styled
def equilibrium_figure(trajectories: Mapping[str, Trajectory], sparsity: Mapping[str, float]) -> Figure:
    """Draw the fan-in CCV over the topology updates; a panel for each sparse layer.

    The updates over which convergence is decided are shaded, see :func:`psn_lightning.topology.equilibrium.settlement`.

    Args:
        trajectories: Trajectories of at least one update, by layer name.
        sparsity: Realised sparsity by layer name, for the two-level bound of the CCV.
    """
    figure, axes = _panels(len(trajectories), 5.5, 3.8)
    for axis, (name, path) in zip(axes, trajectories.items(), strict=True):
        verdict = settlement(path)
        axis.plot(path.steps, path.ccv, marker=".", markersize=4)
        axis.axvspan(path.steps[verdict.first], path.steps[-1], alpha=0.12, label="updates that decide")
        axis.axhline(verdict.ccv, linestyle="--", linewidth=1, label=f"their mean {verdict.ccv:.2f}")
        bound = two_level_bound(sparsity[name])
        if bound < 2 * max(path.ccv):
            axis.axhline(bound, color="C3", linewidth=1, label=f"two-level bound {bound:.2f}")
        word = "converged" if verdict.converged else "not converged"
        axis.set(
            title=f"{name}: {word} (drift {verdict.drift:.1%})",
            xlabel="optimizer step",
            ylabel="fan-in CCV",
            ylim=(0, None),
        )
        axis.legend(fontsize="small")
    return figure


def _panels(n: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Panels beside each other, of a width and height in inches.

    Constrained layout would draw every figure twice, 0.2 seconds each at the end of every run.
    """
    figure = Figure(figsize=(n * width, height))
    left, right, bottom, top = 0.75 / (n * width), 1 - 0.15 / (n * width), 0.5 / height, 1 - 0.35 / height
    figure.subplots_adjust(left, bottom, right, top, wspace=0.9 / (width - 0.9))
    return figure, figure.subplots(1, n, squeeze=False)[0]


def draw_mask(axis: Axes, connectivity: Connectivity) -> None:
    """Draw a mask as the density of connections in bins; neurons from top to bottom.

    Args:
        axis: Axes to draw on.
        connectivity: Connectivity of the layer.
    """
    bins = (min(_MASK_PIXELS, connectivity.n_out), min(_MASK_PIXELS, connectivity.n_in))
    extent = ((0, connectivity.n_out), (0, connectivity.n_in))
    counts, _, _ = np.histogram2d(connectivity.rows(), connectivity.indices, bins=bins, range=extent)
    cells = connectivity.n_out * connectivity.n_in / (bins[0] * bins[1])
    image = axis.imshow(
        counts / cells,
        aspect="auto",
        cmap=mpl.colormaps["Blues"],
        interpolation="nearest",
        extent=(0, connectivity.n_in, connectivity.n_out, 0),
    )
    axis.set(xlabel="input", ylabel="neuron")
    axis.figure.colorbar(image, ax=axis, label="density")
