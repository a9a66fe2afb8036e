"""Style of all figures: colours that colour-blind readers tell apart, large type, no frames."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours C0, C1 …: those of Okabe & Ito, 2008 (Color Universal Design), without yellow, which is pale on white."""

_STYLE: Any = {
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",  # readable on a dark page
    "font.size": 12,  # 10 pixels where a figure 6.4 inches wide is shown at 400
    "axes.titlesize": 12,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_DPI = 130

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that draws, so that it draws in this style.

    Args:
        draw: Function that makes a figure, or draws on one.
    """

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapper


@styled
def save_figure(figure: Figure, file: Path | str | BinaryIO, **options: Any) -> None:
    """Write a figure; colours that are named by their place in the palette are looked up here.

    Args:
        figure: Figure that a :func:`styled` function has drawn.
        file: Where to; the suffix of a path chooses the format.
        options: Further arguments of matplotlib's ``savefig``.
    """
    figure.savefig(file, **{"dpi": _DPI, **options})
