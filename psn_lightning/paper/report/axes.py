"""Axes and curves that the figures of the report share."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from psn_lightning.paper.report.layout import Layout
from psn_lightning.paper.report.runs import Runs, accuracy
from psn_lightning.paper.report.tables import LEVEL


def make_axes(columns: int = 1, width: float = 5.5, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    """Make a figure with a row of axes; width and height of each are in inches."""
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def draw_means(
    axis: Axes, cells: Mapping[float, Runs], label: str, colour: str | None = None, marker: str = "o"
) -> None:
    """Draw mean accuracies over positions on the x axis, with 95% intervals from the noise pooled over the cells."""
    layout = Layout({(str(place), run.seed): accuracy(run) for place, cell in cells.items() for run in cell.all})
    means = [statistics.fmean(cell.by_seed().values()) for cell in cells.values()]
    found = [layout.mean(str(place)) for place in cells]
    reach = [0.0 if mean is None else mean.interval(LEVEL)[1] - mean.difference for mean in found]
    axis.errorbar(list(cells), means, yerr=reach, marker=marker, markersize=4, capsize=3, label=label, color=colour)
