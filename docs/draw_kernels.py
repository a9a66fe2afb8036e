"""Draws docs/kernels.png, the path of a tile through the csr engine: ``python docs/draw_kernels.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from psn_lightning.figure_style import save_figure, styled

TILES = ("#7fb3d5", "#f5b971", "#9ccc9c")
BLOCKS = ("#7fb3d5", "#cfe3f1")
GRADIENTS = ("#e59a9a", "#f6d5d5")
GREY, INK = "#dddddd", "#333333"
CELL = 0.25


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
    write(ax, x + width / 2, y + height / 2, text)


def write(ax: Axes, x: float, y: float, text: str, size: float = 10, **style: str) -> None:
    """Write a text at ``(x, y)``, centred by default."""
    ax.text(x, y, text, fontsize=size, **{"ha": "center", "va": "center", "color": INK, **style})


def write_title(ax: Axes, y: float, text: str) -> None:
    """Write the title of a part."""
    write(ax, 0.0, y, text, 12, ha="left", weight="bold")


def draw_layout(ax: Axes) -> None:
    """Draw the first part: the layout of a batch in tiles, and the tiles of each thread."""
    write_title(ax, 17.3, "1  Layout: a batch becomes tiles")
    draw_grid(ax, 0.1, 16.7, 12, 8, lambda row, _: TILES[row // 4])
    write(ax, 1.1, 13.45, "batch (n_rows, n_in)")
    draw_arrow(ax, (2.25, 15.2), (3.55, 15.2))
    write(ax, 2.9, 15.6, "pack_tile\n(transpose)")
    for tile in range(3):
        draw_grid(ax, 4.0 + 1.4 * tile, 16.0, 8, 4, lambda *_, tile=tile: TILES[tile])
        write(ax, 4.5 + 1.4 * tile, 16.2, f"tile {tile}")
    write(ax, 3.8, 15.0, "n inputs", rotation="vertical")
    for first, last, label in ((3.95, 5.05, "thread 0"), (5.35, 7.85, "thread 1: all layers")):
        ax.plot([first, first, last, last], [16.4, 16.52, 16.52, 16.4], color=INK, lw=1)
        write(ax, (first + last) / 2, 16.72, label)
    write(ax, 5.9, 13.6, "width columns: 64, 32 or 16 rows of the\nbatch, side by side in memory")


def draw_forward(ax: Axes) -> None:
    """Draw the second part: the forward pass of one tile through one layer."""
    write_title(ax, 12.8, "2  Forward: one tile through one layer")
    draw_grid(ax, 0.5, 12.1, 8, 4, lambda row, _: BLOCKS[0 if row < 4 else 1])
    for row, y in enumerate((11.6, 10.6)):
        write(ax, 0.2, y, f"block {row}", 9, rotation="vertical")
    write(ax, 1.0, 9.85, "x (n_in, width)")
    connections = [(0, 1), (0, 3), (2, 0), (1, 5), (2, 4), (2, 6), (3, 2), (5, 1), (4, 6), (4, 7), (5, 5)]
    draw_grid(
        ax, 2.9, 11.9, 6, 8, lambda row, column: BLOCKS[column // 4] if (row, column) in connections else "#f4f4f4"
    )
    for k, (row, column) in enumerate(connections):
        write(ax, 2.9 + (column + 0.5) * CELL, 11.9 - (row + 0.5) * CELL, str(k), 8)
    ax.plot([2.9, 4.9], [11.15, 11.15], color="#b03030", lw=1.4)
    ax.plot([3.9, 3.9], [10.4, 11.9], color="#b03030", lw=1.4)
    ax.add_patch(Rectangle((3.9, 11.15), 4 * CELL, CELL, fill=False, edgecolor=INK, lw=1.6))
    write(ax, 3.9, 12.15, "weights, by block")
    draw_arrow(ax, (1.55, 10.95), (3.95, 11.25), 0.15, "#888888")
    draw_arrow(ax, (1.55, 10.45), (4.45, 11.15), 0.25, "#888888")
    draw_arrow(ax, (5.0, 11.25), (6.2, 11.25))
    write(ax, 5.6, 11.5, "multiply")
    draw_grid(ax, 6.6, 11.9, 6, 4, lambda row, _: "#f5b971" if row == 2 else "#fbe3c6")
    write(ax, 6.45, 11.28, "j")
    write(ax, 7.1, 12.15, "z = x Wᵀ + b")
    write(
        ax,
        2.6,
        9.05,
        "multiply: for each run (framed: one\nneuron, one block) gather rows of x,\nsum in vector registers",
    )
    draw_arrow(ax, (7.1, 10.35), (7.1, 9.7))
    draw_box(ax, 5.9, 9.2, 2.0, 0.4, "LayerNorm, ReLU")
    write(ax, 6.5, 8.75, "→ x of the next layer; at last: unpack_tile")


def draw_backward(ax: Axes) -> None:
    """Draw the third part: the backward pass of the tile, and the sum over threads."""
    write_title(ax, 7.9, "3  Backward: the same tile, from the last layer")
    draw_grid(ax, 0.4, 7.3, 6, 4, lambda *_: GRADIENTS[1])
    write(ax, 0.9, 7.5, "g: gradient to y")
    draw_arrow(ax, (1.5, 6.55), (2.3, 6.55))
    draw_box(ax, 2.45, 6.15, 2.6, 0.8, "sum_gradients,\nnormalize_backward")
    draw_arrow(ax, (5.2, 6.55), (6.0, 6.55))
    draw_grid(ax, 6.2, 7.3, 6, 4, lambda *_: GRADIENTS[0])
    write(ax, 6.7, 7.5, "g: gradient to z")
    boxes = (
        ("multiply_transposed: Σ w·g[j]", "to x: g of the layer before"),
        ("add_dot_products: x[i] · g[j]", "to values"),
        ("sums over the columns", "to bias, gain, shift"),
    )
    ax.plot([6.7, 6.7, 0.2, 0.2], [5.7, 5.1, 5.1, 3.0], color=INK, lw=1)
    for k, (name, result) in enumerate(boxes):
        y = 4.35 - 0.8 * k
        draw_arrow(ax, (0.2, y + 0.25), (0.6, y + 0.25))
        draw_box(ax, 0.7, y, 3.75, 0.5, name)
        write(ax, 4.65, y + 0.25, f"→ gradient {result}", ha="left")
    ax.plot([7.75, 7.9, 7.9, 7.75], [3.8, 3.8, 3.0, 3.0], color=INK, lw=1)
    draw_arrow(ax, (7.9, 3.4), (7.2, 2.2), -0.3)
    draw_box(ax, 0.1, 1.3, 7.7, 0.8, "flat gradient of each thread → wait_for_all →\nevery thread sums its share")


@styled
def main() -> None:
    """Draw the figure into the folder of this script."""
    figure = Figure(figsize=(6.4, 13.2), layout="constrained")
    ax = figure.subplots()
    ax.set(xlim=(-0.1, 8.1), ylim=(1.1, 17.6), aspect="equal")
    ax.axis("off")
    draw_layout(ax)
    draw_forward(ax)
    draw_backward(ax)
    save_figure(figure, Path(__file__).with_name("kernels.png"), bbox_inches="tight")


if __name__ == "__main__":
    main()
