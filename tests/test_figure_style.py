"""One style for all figures, which other figures of the process do not see."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from psn_lightning.figure_style import PALETTE, save_figure, styled


@styled
def draw():
    figure = Figure(figsize=(1, 1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.plot([0, 1], [0.5, 0.5], color="C1", linewidth=30)  # looked up when it is saved
    return figure


def test_colours_by_place_are_those_of_the_palette_in_the_file():
    content = io.BytesIO()
    save_figure(draw(), content, format="png")
    content.seek(0)
    image = imread(content)
    centre = image[image.shape[0] // 2, image.shape[1] // 2, :3]
    assert np.allclose(centre, to_rgb(PALETTE[1]), atol=0.01)


def test_the_style_ends_with_the_function():
    before = dict(mpl.rcParams)
    figure = draw()
    save_figure(figure, io.BytesIO(), format="png")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("seen", [np.eye(3), [[0.37, 0.86, -0.23], [0.28, 0.67, 0.05], [-0.01, 0.04, 0.97]]])
def test_colours_are_told_apart_by_readers_who_see_no_green(seen):
    """Deuteranopia: the matrix of Machado et al., 2009, severity 1, rounded."""
    colours = np.array([to_rgb(colour) for colour in PALETTE]) @ np.array(seen).T
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distances[~np.eye(len(colours), dtype=bool)].min() > 0.15
