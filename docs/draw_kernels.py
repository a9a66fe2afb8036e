"""Draws docs/kernels.png, the path of a tile through the csr engine: ``python docs/draw_kernels.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

TILES = ("#7fb3d5", "#f5b971", "#9ccc9c")
BLOCKS = ("#7fb3d5", "#cfe3f1")
GRADIENTS = ("#e59a9a", "#f6d5d5")
GREY, INK = "#dddddd", "#333333"
CELL = 0.3


def draw_grid(ax: Axes, x: float, y: float, rows: int, columns: int, colour: Callable[[int, int], str]) -> None:
    """Draw a matrix of cells.

    Args:
        ax: Axes to draw on.
        x: Left edge.
        y: Upper edge.
        rows: Number of rows.
        columns: Number of columns.
        colour: Function from row and column to the colour of a cell.
    """
    for row in range(rows):
        for column in range(columns):
            corner = (x + column * CELL, y - (row + 1) * CELL)
            ax.add_patch(Rectangle(corner, CELL, CELL, facecolor=colour(row, column), edgecolor="white", linewidth=0.8))


def draw_arrow(ax: Axes, start: Sequence[float], end: Sequence[float], bend: float = 0.0, colour: str = INK) -> None:
    """Draw an arrow between two points.

    Args:
        ax: Axes to draw on.
        start: Coordinates of the tail.
        end: Coordinates of the head.
        bend: Curvature of the arc; 0 for a straight arrow.
        colour: Colour of the arrow.
    """
    style = f"arc3,rad={bend}"
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=11, color=colour, connectionstyle=style, lw=1.1
    )
    ax.add_patch(arrow)


def draw_box(ax: Axes, x: float, y: float, width: float, height: float, text: str) -> None:
    """Draw a rounded box with a text; ``(x, y)`` is the lower left corner."""
    ax.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.05", facecolor="#f7f7f7", edgecolor=INK, lw=1)
    )
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def write(ax: Axes, x: float, y: float, text: str, size: float = 9, **style: str) -> None:
    """Write a text at ``(x, y)``, centred by default."""
    ax.text(x, y, text, fontsize=size, **{"ha": "center", "va": "center", "color": INK, **style})


def draw_layout(ax: Axes) -> None:
    """Draw the first part: the layout of a batch in tiles, and the tiles of each thread."""
    write(ax, 0.1, 14.1, "1  Layout: a batch becomes tiles", 12, ha="left", weight="bold")
    draw_grid(ax, 0.5, 13.4, 12, 8, lambda row, _: TILES[row // 4])
    write(ax, 1.7, 9.5, "batch (n_rows, n_in)")
    draw_arrow(ax, (3.2, 11.6), (5.0, 11.6))
    write(ax, 4.1, 12.1, "pack_tile\n(transpose)")
    for tile in range(3):
        draw_grid(ax, 5.4 + 1.9 * tile, 13.0, 8, 4, lambda *_, tile=tile: TILES[tile])
        write(ax, 6.0 + 1.9 * tile, 13.3, f"tile {tile}")
    write(ax, 5.2, 11.8, "n inputs", rotation="vertical")
    write(ax, 6.0, 10.3, "width columns")
    write(
        ax,
        7.9,
        9.8,
        "one row of a tile = one input of 64, 32 or 16 rows of the batch, contiguous in memory",
        ha="center",
    )
    for first, last, thread in ((5.35, 6.65, 0), (7.25, 10.45, 1)):
        ax.plot([first, first, last, last], [13.6, 13.75, 13.75, 13.6], color=INK, lw=1)
        write(ax, (first + last) / 2, 14.0, f"thread {thread}: all layers")


def draw_forward(ax: Axes) -> None:
    """Draw the second part: the forward pass of one tile through one layer."""
    write(ax, 0.1, 8.9, "2  Forward: one tile through one layer", 12, ha="left", weight="bold")
    draw_grid(ax, 0.8, 8.0, 8, 4, lambda row, _: BLOCKS[0 if row < 4 else 1])
    for row, (low, high) in enumerate(((8.0, 6.8), (6.8, 5.6))):
        write(ax, 0.4, (low + high) / 2, f"block {row}\nof inputs", 8, rotation="vertical")
    write(ax, 1.4, 5.3, "x  (n_in, width)")
    connections = [(0, 1), (0, 3), (2, 0), (1, 5), (2, 4), (2, 6), (3, 2), (5, 1), (4, 6), (4, 7), (5, 5)]
    draw_grid(
        ax, 3.0, 7.9, 6, 8, lambda row, column: BLOCKS[column // 4] if (row, column) in connections else "#f4f4f4"
    )
    for k, (row, column) in enumerate(connections):
        write(ax, 3.0 + (column + 0.5) * CELL, 7.9 - (row + 0.5) * CELL, str(k), 8)
    ax.plot([3.0, 5.4], [7.0, 7.0], color="#b03030", lw=1.4)
    ax.plot([4.2, 4.2], [6.1, 7.9], color="#b03030", lw=1.4)
    ax.add_patch(Rectangle((4.2, 7.0), 4 * CELL, CELL, fill=False, edgecolor=INK, lw=1.6))
    write(ax, 4.2, 8.15, "weights in blocks, numbered in their order")
    draw_arrow(ax, (2.05, 6.65), (4.25, 7.1), 0.15, "#888888")
    draw_arrow(ax, (2.05, 6.05), (4.85, 7.02), 0.25, "#888888")
    write(
        ax,
        4.4,
        5.4,
        "multiply: for each run (framed: one\nneuron, one block) gather rows of x,\nsum in vector registers",
    )
    draw_arrow(ax, (5.5, 7.15), (6.55, 7.25))
    draw_grid(ax, 6.8, 8.0, 6, 4, lambda row, _: "#f5b971" if row == 2 else "#fbe3c6")
    write(ax, 6.65, 7.25, "j", 9)
    write(ax, 7.4, 5.9, "z = x Wᵀ + b")
    draw_arrow(ax, (8.15, 7.1), (8.7, 7.1))
    draw_box(ax, 8.8, 6.75, 1.7, 0.7, "LayerNorm, ReLU")
    draw_arrow(ax, (10.6, 7.1), (11.15, 7.1))
    draw_grid(ax, 11.3, 8.0, 6, 4, lambda *_: "#cfe8cf")
    write(ax, 11.9, 5.75, "y = x of the next layer;\nlast layer: unpack_tile(z)")


def draw_backward(ax: Axes) -> None:
    """Draw the third part: the backward pass of the tile, and the sum over threads."""
    write(ax, 0.1, 4.7, "3  Backward: the same tile, layer by layer from the last", 12, ha="left", weight="bold")
    draw_grid(ax, 0.8, 3.9, 6, 4, lambda *_: GRADIENTS[1])
    write(ax, 1.4, 1.85, "g: gradient to y")
    draw_arrow(ax, (2.1, 3.0), (2.65, 3.0))
    draw_box(ax, 2.75, 2.6, 1.75, 0.8, "sum_gradients,\nnormalize_backward")
    draw_arrow(ax, (4.6, 3.0), (5.15, 3.0))
    draw_grid(ax, 5.3, 3.9, 6, 4, lambda *_: GRADIENTS[0])
    write(ax, 5.9, 1.85, "g: gradient to z")
    boxes = (
        (3.55, "multiply_transposed: Σ w·g[j]", "gradient to x = g of the layer before"),
        (2.65, "add_dot_products: x[i] · g[j]", "gradient to values"),
        (1.75, "sums over the columns", "gradients to bias, gain, shift"),
    )
    for y, name, result in boxes:
        draw_arrow(ax, (6.6, 3.0), (7.05, y + 0.25))
        draw_box(ax, 7.15, y, 2.5, 0.5, name)
        write(ax, 9.95, y + 0.25, f"→ {result}", ha="left")
    ax.plot([12.7, 12.85, 12.85, 12.7], [3.05, 3.05, 1.85, 1.85], color=INK, lw=1)
    draw_arrow(ax, (12.85, 1.85), (12.4, 1.15), -0.2)
    draw_box(ax, 5.3, 0.5, 7.3, 0.55, "flat gradient of each thread → wait_for_all → every thread sums its share")


def main() -> None:
    """Draw the figure into the folder of this script."""
    figure, ax = plt.subplots(figsize=(13.2, 14.4 * 13.2 / 13.4))
    ax.set(xlim=(0, 13.4), ylim=(0.2, 14.5), aspect="equal")
    ax.axis("off")
    draw_layout(ax)
    draw_forward(ax)
    draw_backward(ax)
    figure.savefig(Path(__file__).with_name("kernels.png"), dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
