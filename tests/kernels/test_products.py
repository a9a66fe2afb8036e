"""Products on one tile against dense matrices."""

import numpy as np
import pytest
import torch
from numba import njit

from psn_lightning.kernels.products import add_dot_products, multiply, multiply_transposed
from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.vectors import count_lanes


@njit
def call_multiply(width, cut, edges, starts, indices, values, x, bias, out):
    multiply(width, 0, cut, edges, starts, indices, values, x, bias, out)
    multiply(width, cut, len(out), edges, starts, indices, values, x, bias, out)


@njit
def call_multiply_transposed(width, cut, edges, starts, columns, values, g, out):
    multiply_transposed(width, 0, cut, edges, starts, *columns, values, g, out)
    multiply_transposed(width, cut, len(out), edges, starts, *columns, values, g, out)


@njit
def call_add_dot_products(width, cut, edges, starts, indices, x, g, out):
    add_dot_products(width, 0, cut, edges, starts, indices, x, g, out)
    add_dot_products(width, cut, len(g), edges, starts, indices, x, g, out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n_out", "n_in", "density"), [(20, 600, 0.1), (600, 20, 1.0), (700, 600, 0.05), (30, 30, 0.2)]
)
def test_against_dense_matrices(n_out, n_in, density, dtype):
    rng, width, cut = np.random.default_rng(3), 64, 7  # two threads share the rows: 7 for one
    mask = rng.random((n_out, n_in)) < density
    mask[4], mask[:, 5] = False, False
    vectors = (0,) * (width // count_lanes(np.dtype(dtype).itemsize))
    structure = Structure(np.flatnonzero(mask), *mask.shape)
    values, bias = rng.random(int(mask.sum())).astype(dtype), rng.random(n_out).astype(dtype)
    x, g = rng.random((n_in, width)).astype(dtype), rng.random((n_out, width)).astype(dtype)
    weight = np.zeros(mask.shape, dtype)
    weight[mask] = structure.to_rows(torch.from_numpy(values))
    tolerance = {"rtol": 1e-4 if dtype == np.float32 else 1e-11}
    arguments = (vectors, cut, structure.edges, structure.starts)
    out = np.full((n_out, width), np.nan, dtype)
    call_multiply(*arguments, structure.indices, values, x, bias, out)
    np.testing.assert_allclose(out, weight @ x + bias[:, None], **tolerance)
    to_x = np.full((n_in, width), np.nan, dtype)
    call_multiply_transposed(*arguments, structure.columns, values, g, to_x)
    np.testing.assert_allclose(to_x, weight.T @ g, **tolerance)
    dots = np.ones(len(values), dtype)
    call_add_dot_products(*arguments, structure.indices, x, g, dots)
    np.testing.assert_allclose(structure.to_rows(torch.from_numpy(dots)), (g @ x.T)[mask] + 1, **tolerance)
