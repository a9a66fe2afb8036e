"""Draws by distance: exact inclusion probabilities, and the limits r = 0 and r = 1."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from psn_lightning.errors import SettingError
from psn_lightning.topology import LayerBudget, ReceptiveField
from psn_lightning.topology.wirings.drawing import ring_distance


def inclusion(weights, k):
    """Probability of each item among k draws without replacement, by all orders."""
    found = np.zeros(len(weights))
    for order in permutations(range(len(weights)), k):
        probability, rest = 1.0, weights.sum()
        for item in order:
            probability *= weights[item] / rest
            rest -= weights[item]
        found[list(order)] += probability
    return found


@pytest.mark.parametrize("r", [0.2, 0.5, 0.8])
def test_inputs_are_drawn_in_proportion_to_their_weight(r):
    budget, tries, rng = LayerBudget(6, 2, 0.5), 1200, np.random.default_rng(0)
    seen = np.mean([ReceptiveField(r).connect(budget, rng).mask() for _ in range(tries)], axis=0)
    weights = (1 + ring_distance(np.arange(2), 6, 2)) ** (-(1 - r) / r)
    expected = np.array([inclusion(row, 3) for row in weights])
    assert np.abs(seen - expected).max() < 4.5 * np.sqrt(0.25 / tries)


def test_at_1_every_input_is_as_likely():
    connectivity = ReceptiveField(1.0).connect(LayerBudget(100, 4000, 0.9), np.random.default_rng(1))
    keys = connectivity.rows(), connectivity.indices
    distance = ring_distance(np.arange(4000), 100, 4000)[keys]
    assert stats.kstest(distance, stats.uniform(0, 50).cdf).pvalue > 0.01
    assert stats.chisquare(connectivity.fan_out).pvalue > 0.01


def test_at_0_each_neuron_reads_one_run_and_nearly_so_just_above():
    budget = LayerBudget(60, 90, 0.9)
    nearest = ReceptiveField(0.0).connect(budget, np.random.default_rng(0))
    almost = ReceptiveField(0.003).connect(budget, np.random.default_rng(0))
    distance = ring_distance(np.arange(90), 60, 90)
    assert distance[nearest.mask()].max() <= 3
    assert distance[almost.mask()].sum() == pytest.approx(distance[nearest.mask()].sum(), rel=0.01)


def test_the_whole_diagonal_is_covered_in_a_tall_layer():
    mask = ReceptiveField(0.1).connect(LayerBudget(784, 1024, 0.99), np.random.default_rng(0)).mask()
    near = ring_distance(np.arange(1024), 784, 1024) < 20
    assert all((mask & near)[part].sum() > 0.8 * mask[part].sum() for part in np.array_split(np.arange(1024), 8))


@pytest.mark.parametrize("randomness", [-0.1, 1.1, float("nan")])
def test_a_randomness_out_of_range(randomness):
    with pytest.raises(SettingError, match="randomness"):
        ReceptiveField(randomness)
