"""Figures of the comparison of methods: accuracy over cost and over heterogeneity, average ranks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from psn_lightning.figure_style import styled
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.axes import make_axes
from psn_lightning.paper.report.method_ranks import average_ranks, rank_figure
from psn_lightning.paper.report.methods import (
    DENSE,
    EXPERIMENT,
    METHOD,
    at_sparsity,
    mean,
    of_method,
    ranking,
    sparsities,
)
from psn_lightning.paper.report.runs import Measure, Runs, late_accuracy, metric
from psn_lightning.paper.report.tables import LEVEL

_KINDS = {"dense": "black", "mask that stays": "C0", "mask that moves": "C1", "dense to sparse": "C2"}
"""Kinds of training, and their colours."""


def draw_methods(runs: Runs) -> Iterator[tuple[str, str, Figure]]:
    """Draw the comparison on each data set: cost, heterogeneity, average ranks.

    Args:
        runs: Recorded runs.

    Yields:
        Name of the file, caption and figure.
    """
    for data in runs.of(EXPERIMENT).data():
        own = runs.of(EXPERIMENT, data)
        title = own.dataset()
        yield f"methods-cost-{data}", f"Methods: accuracy over the cost of training, {title}.", cost_figure(own)
        caption = f"Methods: accuracy over the fan-in CCV of the last masks, {title}."
        yield f"methods-ccv-{data}", caption, heterogeneity_figure(own)
        if (found := average_ranks(own)) is not None:
            yield f"methods-ranks-{data}", f"Methods: average ranks, {title}.", rank_figure(found)


@styled
def cost_figure(runs: Runs) -> Figure:
    """Draw the accuracy of every method over the floating-point operations of its training.

    Args:
        runs: Runs of the comparison on one data set.
    """
    return _draw(runs, metric("cost/flops"), "training, FLOP (connections × rows × 6)", "log")


@styled
def heterogeneity_figure(runs: Runs) -> Figure:
    """Draw the accuracy of every method over the fan-in CCV of its last masks, mean over the layers.

    Args:
        runs: Runs of the comparison on one data set.
    """
    return _draw(runs, metric("fan_in/ccv"), "fan-in CCV at the end, mean over the layers", "symlog")


def kind_of(runs: list[RecordedRun]) -> str:
    """Tell how a method trains, from what its runs have logged.

    Args:
        runs: Runs of a method at one sparsity.
    """
    last = runs[0].metrics
    if last["sparsity/realised"] == 0:
        return "dense"
    if last["cost/density"] > 1.01 * (1 - last["sparsity/realised"]):
        return "dense to sparse"
    kept = min(value for name, value in last.items() if name.startswith("topology/overlap_with_initial/"))
    return "mask that stays" if kept == 1 else "mask that moves"


@styled
def _draw(runs: Runs, place: Measure, label: str, scale: str) -> Figure:
    """Draw accuracies over a measure, a panel for each sparsity."""
    every = sparsities(runs)
    figure, axes = make_axes(len(every), 6.2, 5.4)
    for axis, sparsity in zip(axes, every, strict=True):
        _draw_panel(axis, at_sparsity(runs, sparsity), place)
        axis.set_xscale(scale, **({"linthresh": 0.1} if scale == "symlog" else {}))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set(title=f"{sparsity:.0%}", xlabel=label, ylabel="accuracy, %")
    marks = [axes[0].plot([], [], "o", color=colour, label=kind)[0] for kind, colour in _KINDS.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize="small")
    return figure


def _draw_panel(axis: Axes, runs: Runs, place: Measure) -> None:
    """Draw the methods of one sparsity, with their names beside the panel in the order of accuracy."""
    layout = runs.layout(METHOD, late_accuracy)
    methods = ranking(runs)
    for i, method in enumerate(methods):
        own = of_method(runs, method)
        x, y, colour = statistics.fmean(map(place, own)), mean(runs, method), _KINDS[kind_of(own)]
        found = layout.mean(method)
        reach = 0.0 if found is None else found.interval(LEVEL)[1] - found.difference
        marker = "s" if method == DENSE else "o"
        axis.errorbar(x, y, yerr=reach, fmt=marker, color=colour, markersize=5, elinewidth=0.8)
        axis.annotate(
            method,
            (x, y),
            (1.03, 1 - (i + 0.5) / len(methods)),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "linewidth": 0.6},
            annotation_clip=False,
        )
