"""Figures of topologies: titles, labels, and no dense matrix of a wide layer."""

import io

import numpy as np
import pytest

from psn_lightning.commands.topology_figures import equilibrium_figure, fan_in_histogram, topology_figure
from psn_lightning.topology import Connectivity, Lognormal, Topology, Uniform
from psn_lightning.topology.equilibrium import Trajectory


def layers(topology, sizes):
    return {f"fc{i}": c for i, c in enumerate(topology.connect(sizes, "even", 0), start=1)}


@pytest.mark.parametrize("hidden", [[40], [40, 30, 20]])
def test_one_row_per_layer(hidden):
    figure = topology_figure(layers(Topology(Lognormal(0.5), 0.5), [20, *hidden, 3]))
    titles = [axis.get_title() for axis in figure.axes]
    assert sum("fan-in, CCV 0.5" in title for title in titles) == len(hidden)
    assert sum("mask" in title for title in titles) == len(hidden)
    figure.savefig(io.BytesIO())


def test_a_wide_layer_is_drawn_without_its_dense_matrix(monkeypatch):
    wide = layers(Topology(Uniform(), 0.999), [4000, 65536, 3])
    monkeypatch.setattr(Connectivity, "mask", lambda self: pytest.fail("dense"))
    topology_figure(wide).savefig(io.BytesIO())


def test_histogram_before_and_after():
    before = layers(Topology(Uniform(), 0.5), [20, 40, 3])
    after = {"fc1": Connectivity.from_mask(np.zeros((40, 20)))}  # no connections left: the figure is drawn all the same
    figure = fan_in_histogram(before, after)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["before, CCV 0.00", "after, CCV 0.00"]
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("ccv", "word"), [([0.5, 0.8, 0.8, 0.8], "fc1: converged"), ([0.5, 0.6, 0.7, 0.8], "not converged")]
)
def test_the_title_says_whether_a_trajectory_has_converged(ccv, word):
    path = Trajectory([0, 100, 200, 300], ccv, [0.4] * 4)
    figure = equilibrium_figure({"fc1": path, "fc2": path}, {"fc1": 0.6, "fc2": 0.99})
    assert word in figure.axes[0].get_title()
    labels = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]
    assert any("two-level bound 1.22" in label for label in labels[0])
    assert not any("bound" in label for label in labels[1])  # the bound is far above the curve and left out
    figure.savefig(io.BytesIO())
