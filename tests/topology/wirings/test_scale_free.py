"""Power laws on both sides."""

import numpy as np
import pytest

from psn_lightning.topology import LayerBudget, ScaleFree, Uniform
from psn_lightning.topology.scaling import coefficient_of_variation
from psn_lightning.topology.wirings.scale_free import _match, grow_degrees


def exponent(degree, smallest):
    """Of a power law's tail, by maximum likelihood (Clauset et al., 2009, eq. 3.7)."""
    tail = degree[degree >= smallest]
    return 1 + tail.size / np.log(tail / (smallest - 0.5)).sum()


def test_a_graph_that_grows_by_preference_has_the_exponent_3():
    degree = grow_degrees(2500, 3, np.random.default_rng(0))
    assert degree.sum() == 2 * (6 + 3 * 2496)
    assert exponent(degree, 8) == pytest.approx(3, abs=0.25)
    assert degree[:100].mean() > 5 * degree[-100:].mean()


def test_attachment_is_in_proportion_to_the_degree():
    """The fourth node of a graph of single links finds the degrees 2, 1, 1."""
    to_the_hub = [grow_degrees(4, 1, np.random.default_rng(seed)).max() == 3 for seed in range(4000)]
    assert np.mean(to_the_hub) == pytest.approx(0.5, abs=0.032)


def test_both_sides_have_hubs():
    connectivity = ScaleFree().connect(LayerBudget(600, 900, 0.99), np.random.default_rng(0))
    for degree in (connectivity.fan_in, connectivity.fan_out):
        assert coefficient_of_variation(degree) > 0.6
        assert degree.max() > 5 * degree.mean()
        assert exponent(degree, int(degree.mean())) == pytest.approx(2.9, abs=0.5)


def test_the_fan_out_meets_its_targets_nearly():
    rng = np.random.default_rng(0)
    fan_out = grow_degrees(300, 6, rng)
    fan_in = Uniform().fan_in(LayerBudget(300, 500, 1 - fan_out.sum() / 150_000), rng)
    connectivity = _match(fan_in, fan_out, rng)
    assert np.array_equal(connectivity.fan_in, fan_in)
    assert np.abs(connectivity.fan_out - fan_out).sum() < 0.02 * fan_out.sum()
