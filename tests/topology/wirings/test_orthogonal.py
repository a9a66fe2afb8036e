"""Exact orthogonality at exact counts, and how the rotations fill a matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import LayerBudget, Orthogonal, Uniform, spread
from psn_lightning.topology.scaling import coefficient_of_variation
from tests.topology.drawing import sizes


def matrix(wired):
    """Dense matrix of the connections and their weights."""
    dense = np.zeros((wired.connectivity.n_out, wired.connectivity.n_in))
    dense[wired.connectivity.mask()] = wired.values
    return dense


def make(n_in, n_out, sparsity, gain=1.0, seed=0, min_fan_in=1):
    return Orthogonal(gain).connect(LayerBudget(n_in, n_out, sparsity, min_fan_in), np.random.default_rng(seed))


def defect(dense, gain):
    """Largest entry of W Wᵀ − gain² I, or of Wᵀ W where there are more rows."""
    dense = dense.T if dense.shape[0] > dense.shape[1] else dense
    return np.abs(dense @ dense.T - gain**2 * np.eye(len(dense))).max()


@settings(max_examples=25, deadline=None)
@given(
    n_in=sizes(high=100), n_out=sizes(high=100), share=st.floats(0, 1), gain=st.floats(0.5, 1.5),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_rows_or_columns_are_orthogonal_to_rounding(n_in, n_out, share, gain, seed):
    sparsity = share * (1 - 1 / n_in)
    wired = make(n_in, n_out, sparsity, gain, seed)
    assert wired.connectivity.n_connections == max(n_out, round(n_in * (1 - sparsity) * n_out))
    dense = matrix(wired)
    assert defect(dense, gain) < 1e-13
    assert np.abs(np.linalg.svd(dense, compute_uv=False) - gain).max() < 1e-12


@pytest.mark.parametrize(("n_in", "n_out"), [(784, 1024), (1024, 784), (1024, 1024)])
def test_the_layers_of_the_paper_are_orthogonal_at_the_exact_count(n_in, n_out):
    wired = make(n_in, n_out, 0.9, 2**0.5, min_fan_in=5)
    assert wired.connectivity.n_connections == round(0.1 * n_in * n_out)
    assert wired.connectivity.fan_in.min() >= 5
    assert defect(matrix(wired), 2**0.5) < 1e-13
    lacking = (wired.values == 0).mean()
    assert 0 < lacking < 0.02  # weights of 0 make up the count and the minimum, and are few


def test_fifty_layers_keep_the_norm_where_random_ones_lose_it():
    x = np.random.default_rng(0).standard_normal(100)
    y = z = x / np.linalg.norm(x)
    for seed in range(50):
        y = matrix(make(100, 100, 0.9, seed=seed)) @ y
        rng = np.random.default_rng(seed)
        mask = spread(Uniform().fan_in(LayerBudget(100, 100, 0.9), rng), 100, "random", rng).mask()
        z = mask * rng.normal(0, 1 / np.sqrt(10), mask.shape) @ z
    assert np.linalg.norm(y) == pytest.approx(1, abs=1e-10)
    assert abs(np.linalg.norm(z) - 1) > 0.1


def test_supports_grow_like_an_urn_so_the_fan_in_is_heterogeneous():
    """A row of k of m gains one input per rotation with probability 2k(m − k) / (m(m − 1)): the rich get richer."""
    m, density, rng = 400, 0.1, np.random.default_rng(1)
    k = np.ones(20_000)
    while k.mean() < density * m:
        k += rng.random(k.size) < 2 * k * (m - k) / (m * (m - 1))
    measured = np.concatenate([make(m, m, 1 - density, seed=seed).connectivity.fan_in for seed in range(5)])
    assert coefficient_of_variation(measured) == pytest.approx(coefficient_of_variation(k), rel=0.1)
    assert coefficient_of_variation(measured) > 0.6
    assert np.quantile(measured, [0.25, 0.5, 0.75]) == pytest.approx(np.quantile(k, [0.25, 0.5, 0.75]), rel=0.15)


def test_gains_out_of_range():
    for gain in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(SettingError, match="gain"):
            Orthogonal(gain)
