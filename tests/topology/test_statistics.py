import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from psn_lightning.topology import Connectivity
from psn_lightning.topology.equilibrium import two_level_bound
from psn_lightning.topology.statistics import (
    fan_in_ccv,
    gini,
    gradient_ratio,
    hub_order,
    overlap,
    realised_sparsity,
    summarize,
)

shape = st.tuples(st.integers(1, 12), st.integers(1, 12))
masks = hnp.arrays(np.bool_, shape)


@given(masks)
def test_summary_against_the_dense_mask(mask):
    s = summarize(Connectivity.from_mask(mask))
    assert s.connections == mask.sum()
    assert s.sparsity == pytest.approx(1 - mask.mean())
    assert s.dead_neurons == (~mask.any(axis=1)).sum()
    assert s.dead_inputs == (~mask.any(axis=0)).sum()
    assert (s.fan_in_min, s.fan_in_max) == (mask.sum(1).min(), mask.sum(1).max())


@given(masks)
def test_no_mask_passes_the_two_level_bound(mask):
    assume(mask.any())
    c = Connectivity.from_mask(mask)
    assert fan_in_ccv(c) <= two_level_bound(max(0.0, 1 - mask.mean())) + 1e-9


@given(hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 50)))
def test_gini_is_the_mean_absolute_difference(fan_in):
    expected = 0.0
    if fan_in.sum():
        expected = np.abs(fan_in[:, None] - fan_in).mean() / (2 * fan_in.mean())
    assert gini(fan_in) == pytest.approx(expected, abs=1e-9)


@given(shape, st.integers(0, 99), st.integers(0, 99))
def test_overlap(size, seed_a, seed_b):
    a, b = (np.random.default_rng(s).random(size) < 0.5 for s in (seed_a, seed_b))
    smaller = min(a.sum(), b.sum())
    expected = (a & b).sum() / smaller if smaller else float(a.sum() == b.sum())
    assert overlap(Connectivity.from_mask(a), Connectivity.from_mask(b)) == pytest.approx(expected)


def test_overlap_refuses_other_shapes():
    with pytest.raises(ValueError, match="masks of shape"):
        overlap(Connectivity.full(2, 3), Connectivity.full(3, 2))


def test_sparsity_is_over_the_layers_together():
    layers = [Connectivity.full(10, 10), Connectivity.from_mask(np.zeros((10, 30), dtype=bool))]
    assert realised_sparsity(layers) == pytest.approx(300 / 400)


def test_ties_in_the_ranking_are_broken_by_index():
    hubs, specialists = hub_order(np.array([2, 5, 2, 2, 5]))
    assert hubs.tolist() == [1, 4]
    assert specialists.tolist() == [0, 2, 3]


def test_gradient_ratio_definitions():
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    magnitude = np.array([4.0, 4.0, 1.0, 0.0])  # Σ|g| per neuron
    ratio, active = gradient_ratio(magnitude, Connectivity.from_mask(mask))
    assert ratio == pytest.approx(((4 + 4) / 2) / ((1 + 0) / 2))
    assert active == pytest.approx(((4 / 4 + 4 / 2) / 2) / (1 / 1))  # the dead neuron has no active mean


def test_gradient_ratio_without_gradient_is_nan():
    assert np.isnan(gradient_ratio(np.zeros(4), Connectivity.full(3, 4))).all()
