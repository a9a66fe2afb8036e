"""Draws docs/sharing.png, accuracy against speed of neurons that share inputs: ``python docs/draw_sharing.py``.

Accuracies are those of ``psn-train reproduce sharing`` and ``sharing-dense`` in the record (Fashion-MNIST, the same
fan-in everywhere, RigL, five seeds, ten epochs), seconds per epoch those of ``make bench``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from psn_lightning.figure_style import save_figure, styled
from psn_lightning.paper.record import read
from psn_lightning.paper.report.runs import Runs, late_accuracy

DOCS = Path(__file__).parent
BENCH = DOCS.parent / "benchmarks" / "bench.json"
SPARSITIES = {0.9: "o", 0.95: "s"}
"""Sparsities whose epochs are measured, and their markers."""
SIZES = (16, 64)
STYLES = {"csr": "C0", "csr, groups of 16": "C2", "csr, groups of 64": "C4"}
STYLES |= {"groups, groups of 16": "C3", "groups, groups of 64": "C1", "masked": "C6"}
"""Colour of each kind of fit."""


class Point(NamedTuple):
    """A kind of network."""

    kind: str
    sparsity: float
    seconds: float
    accuracies: list[float]


def find_points(runs: Runs) -> Iterator[Point]:
    """Find what both the record and the benchmark have."""
    rows = [row for row in json.loads(BENCH.read_text())["rows"] if row["part"] == "fit"]
    seconds = {
        (row["how"], row["kind"], row["sparsity"]): row["median"] for row in rows if row["data"] == "FashionMNIST"
    }
    own = runs.of("sharing", "fashion").having({"profile": "uniform", "training": "rigl"})
    for kind in STYLES:
        size = int(kind.rpartition(" ")[2]) if "groups" in kind else 1
        for sparsity in SPARSITIES:
            cell = own.having({"model.topology.init_args.size": size, "model.sparsity": sparsity})
            if cell and ("fit", kind, sparsity) in seconds:
                yield Point(kind, sparsity, seconds["fit", kind, sparsity], list(map(late_accuracy, cell.all)))
    dense = runs.of("sharing-dense", "fashion")
    if dense:
        yield Point("dense (bare loop)", 0.0, seconds["loop", "dense", 0.0], list(map(late_accuracy, dense.all)))


@styled
def draw(points: list[Point]) -> Figure:
    """Draw mean and standard error of the accuracy over the seconds per epoch."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for point in points:
        error = statistics.stdev(point.accuracies) / len(point.accuracies) ** 0.5
        axes.errorbar(
            point.seconds,
            statistics.fmean(point.accuracies),
            error,
            marker=SPARSITIES.get(point.sparsity, "D"),
            color=STYLES.get(point.kind, "0.5"),
            markersize=8,
            linestyle="none",
            label=f"{point.kind}, {point.sparsity:.0%}" if point.sparsity else point.kind,
        )
    axes.set(xscale="log", xlabel="seconds per epoch of psn-train fit", ylabel="test accuracy, %")
    axes.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


if __name__ == "__main__":
    save_figure(draw(list(find_points(Runs(read().values())))), DOCS / "sharing.png")
