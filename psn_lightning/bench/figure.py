"""Figures of measurements: one layer, an epoch, and growth with the number of connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from psn_lightning.bench.tables import count_flops, select
from psn_lightning.bench.timing import Row
from psn_lightning.figure_style import save_figure, styled

_BATCH = 128


def draw_figures(folder: Path, machine: dict[str, Any], rows: Sequence[Row]) -> list[Path]:
    """Draw what was measured: ``bench_layers.png``, ``bench_epochs.png`` and ``bench_scale.png``.

    Args:
        folder: Where the files go.
        machine: What :func:`~psn_lightning.bench.machine.describe_machine` returns.
        rows: Measurements.

    Returns:
        Files that were written.
    """
    layers, fits, scale = (select(rows, part=part) for part in ("layer", "fit", "scale"))
    drawn = [
        ("layers", 7.8, [_draw_layers, _draw_rates] if select(layers, batch=_BATCH) else []),
        ("epochs", 5.6, [_draw_fits] if select(fits, data="FashionMNIST") else []),
        ("scale", 4.2, [_draw_scale] if scale else []),
    ]
    title = f"{machine['processor']}, {machine['threads']} threads, {machine['date']}"
    written = []
    for name, height, panels in drawn:
        if panels:
            written.append(folder / f"bench_{name}.png")
            _draw(written[-1], height, title, panels, rows)
    return written


@styled
def _draw(
    path: Path, height: float, title: str, panels: Sequence[Callable[[Axes, Sequence[Row]], None]], rows: Sequence[Row]
) -> None:
    """Draw panels one below the other, which are read at a width of 400 pixels too."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    for draw, panel in zip(panels, figure.subplots(len(panels), squeeze=False)[:, 0], strict=True):
        draw(panel, rows)
    figure.suptitle(title, fontsize="small", color="0.4")
    save_figure(figure, path)


def _list_sparsities(axes: Axes, sparsities: Sequence[float]) -> None:
    axes.set_xticks(range(len(sparsities)), [f"{s:.1%}".replace(".0", "") for s in sparsities])
    axes.set_xlabel("sparsity")


def _draw_layers(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the speed of csr layers relative to dense ones, over the sparsity, by width."""
    own = select(rows, part="layer", batch=_BATCH)
    sparsities = sorted({row["sparsity"] for row in own})
    for width in sorted({row["width"] for row in select(own, kind="dense")}):
        at = {(row["kind"], row["sparsity"]): row["median"] for row in select(own, width=width)}
        there = [s for s in sparsities if ("csr", s) in at]
        speeds = [at["dense", s] / at["csr", s] for s in there]
        axes.plot([sparsities.index(s) for s in there], speeds, marker="o", label=f"width {width}")
    axes.axhline(1, color="0.5", linewidth=1)
    axes.set(yscale="log", ylabel="times as fast as a dense layer", title="csr, forward and backward")
    _list_sparsities(axes, sparsities)
    axes.legend()


def _draw_rates(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the operations per second over the width, below the peak of a dense product."""
    own = select(rows, part="layer", batch=_BATCH, kind="csr")
    widths = sorted({row["width"] for row in own})
    for sparsity in sorted({row["sparsity"] for row in own}):
        line = sorted((row["width"], count_flops(row) / row["median"] / 1e9) for row in select(own, sparsity=sparsity))
        axes.plot([widths.index(w) for w, _ in line], [rate for _, rate in line], marker="o", label=f"{sparsity:.1%}")
    for row in select(rows, part="roofline", kind="dense product"):
        axes.axhline(row["rate"] / 1e9, color="0.5", linestyle="--", linewidth=1, label="dense product")
    axes.set_xticks(range(len(widths)), [str(width) for width in widths])
    axes.set(xlabel="width", ylabel="GFLOP/s of active connections", title="csr, forward and backward")
    axes.set_ylim(0, 1.4 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper center", ncols=3)


def _draw_fits(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the seconds per epoch of the storages and of bare loops."""
    own = select(rows, part="fit", data="FashionMNIST")
    names = [f"{row['how']}, {row['kind']} {row['sparsity']:.0%}" for row in own]
    colors = ["C0" if row["kind"] == "csr" and row["how"] == "fit" else "0.6" for row in own]
    axes.bar_label(axes.barh(names, [row["median"] for row in own], color=colors), fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="seconds per epoch", title="Fashion-MNIST with RigL")


def _draw_scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw time and memory over the number of connections."""
    own = select(rows, part="scale")
    n = [row["connections"] for row in own]
    axes.loglog(n, [row["median"] * 1e3 for row in own], marker="o", label="ms per step")
    axes.loglog(n, [row["bytes"] / 2**20 for row in own], marker="s", label="peak memory, MiB")
    last = own[-1]["median"] * 1e3 / n[-1]
    axes.loglog(n, [last * x for x in n], color="0.6", linestyle="--", linewidth=1, label="proportional")
    axes.set(xlabel="connections", title="784–width–width–10, the same fan-in")
    axes.legend()
