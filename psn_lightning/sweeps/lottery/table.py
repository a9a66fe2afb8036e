"""Results of a lottery by level: as a table, and as a figure over the share of the connections that is left."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from psn_lightning.figure_style import styled
from psn_lightning.sweeps.lottery.files import Level, Result

COLUMNS = ("level", "connections", "left")
_MARKERS = {"redraw": "s", "shuffle": "^"}


@dataclass(frozen=True)
class Row:
    """A level of a lottery: its ticket, and the controls beside it."""

    level: int
    connections: int
    share_left: float
    values: dict[str, float | None]
    """Metric of the ticket, under the metric's name, and of the controls, under theirs; None: not fitted yet."""

    def cells(self) -> list[str]:
        """Cells of the table."""
        values = ["" if value is None else f"{value:.4f}" for value in self.values.values()]
        return [str(self.level), f"{self.connections:,}", f"{self.share_left:.2%}", *values]


def make_rows(results: Mapping[Level, Result]) -> list[Row]:
    """Make the rows of the table.

    Args:
        results: Results by level; level 0 is there.
    """
    dense = results[Level(0)]
    controls = list(dict.fromkeys(level.control for level in results if level.control))
    rows = []
    for level, result in results.items():
        if level.control is None:
            values: dict[str, float | None] = {result.metric: result.value}
            for control in controls:
                beside = results.get(Level(level.number, control))
                values[control] = None if beside is None else beside.value
            rows.append(Row(level.number, result.connections, result.connections / dense.connections, values))
    return rows


def format_csv(rows: list[Row]) -> str:
    """Format the table as CSV, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *rows[0].values])
    writer.writerows([row.level, row.connections, row.share_left, *row.values.values()] for row in rows)
    return text.getvalue()


@styled
def draw_lottery(rows: list[Row]) -> Figure:
    """Draw the metric over the share of the connections that is left; the network before pruning is a line."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    metric, *controls = rows[0].values
    dense = rows[0].values[metric]
    assert dense is not None, "level 0 has a result"
    axes.axhline(dense, color="0.5", linestyle="--", label="before pruning")
    for name, label, marker in [(metric, "ticket", "o"), *((c, c, _MARKERS[c]) for c in controls)]:
        points = [(100 * row.share_left, row.values[name]) for row in rows if row.values[name] is not None]
        axes.plot(*zip(*points, strict=True), marker=marker, label=label)
    axes.set_xscale("log")
    ticks = [100 * row.share_left for row in rows][:: max(1, len(rows) // 6)]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set_xlabel("connections that are left (%)")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
