"""Bisection, and sums that are settled exactly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.topology import LayerBudget
from psn_lightning.topology.scaling import bisect, settle


@given(st.floats(-10, 10), st.floats(0, 5))
def test_bisect_finds_the_argument(root, slope):
    found = bisect(lambda x: (1 + slope) * (x - root), 0.0, -20, 20)
    assert abs(found - root) < 1e-9


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 3), st.floats(0, 1), st.integers(0, 999))
def test_settled_sums_are_exact_and_in_bounds(n_in, n_out, k_min, share, seed):
    k_min = min(k_min, n_in)
    total = n_out * k_min + round(share * n_out * (n_in - k_min))
    budget = LayerBudget(n_in, n_out, max(0.0, 1 - total / (n_in * n_out)), k_min)
    raw = np.random.default_rng(seed).integers(k_min, n_in + 1, n_out)
    settled = settle(raw, budget)
    assert settled.sum() == budget.n_connections == total
    assert settled.min() >= k_min
    assert settled.max() <= n_in
    if raw.sum() == total:
        assert np.array_equal(raw, settled)
