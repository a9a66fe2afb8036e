"""Products on one tile against dense matrices."""

import numpy as np
import pytest
from numba import njit

from psn_lightning.kernels.products import add_dot_products, multiply
from psn_lightning.kernels.structure import BlockedRows
from psn_lightning.kernels.vectors import count_lanes


@njit
def call_multiply(width, blocks, indices, order, values, x, bias, out):
    multiply(width, blocks, indices, order, values, x, bias, out)


@njit
def call_add_dot_products(width, blocks, indices, x, g, out):
    add_dot_products(width, blocks, indices, x, g, out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_in", "density"), [(600, 0.1), (600, 1.0), (30, 0.2)])
def test_against_dense_matrices(n_in, density, dtype):
    rng, width = np.random.default_rng(3), 64
    mask = rng.random((20, n_in)) < density
    mask[4] = False
    vectors = (0,) * (width // count_lanes(np.dtype(dtype).itemsize))
    rows = BlockedRows(np.flatnonzero(mask), *mask.shape)
    n = int(mask.sum())
    values, bias = rng.random(n).astype(dtype), rng.random(20).astype(dtype)
    x, g = rng.random((n_in, width)).astype(dtype), rng.random((20, width)).astype(dtype)
    weight = np.zeros(mask.shape, dtype)
    weight[mask] = values
    tolerance = {"rtol": 1e-4 if dtype == np.float32 else 1e-11}
    out = np.full((20, width), np.nan, dtype)
    call_multiply(vectors, rows.blocks, rows.indices, None, values, x, bias, out)
    np.testing.assert_allclose(out, weight @ x + bias[:, None], **tolerance)
    order = rng.permutation(n).astype(np.int32)
    shuffled = np.empty_like(values)
    shuffled[order] = values
    call_multiply(vectors, rows.blocks, rows.indices, order, shuffled, x, None, out)
    np.testing.assert_allclose(out, weight @ x, **tolerance)
    dots = np.ones(n, dtype)
    call_add_dot_products(vectors, rows.blocks, rows.indices, x, g, dots)
    np.testing.assert_allclose(dots, (g @ x.T)[mask] + 1, **tolerance)
