"""LayerNorm and ReLU on one tile against torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit

from psn_lightning.kernels.normalization import (
    compute_statistics,
    normalize,
    normalize_backward,
    sum_gradients,
    sum_rows,
)
from psn_lightning.kernels.vectors import count_lanes


@njit
def _halves(n):
    """Shares of two threads."""
    return (0, n // 2), (n // 2, n)


@njit
def call_normalize(width, n, epsilon, z, gain, shift, statistics, y):
    compute_statistics(width, n, epsilon, z, statistics)
    for begin, end in _halves(n):
        normalize(width, begin, end, z, gain, shift, statistics, y)


@njit
def call_normalize_backward(width, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift):
    sum_gradients(width, n, z, gain, statistics, y, g, to_gain, to_shift)
    for begin, end in _halves(n):
        normalize_backward(width, begin, end, z, gain, statistics, y, g, to_bias)


@njit
def call_sum_rows(width, n, tile, sums):
    sum_rows(width, 0, n, tile, sums)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 50])
def test_against_torch(n, dtype):
    generator, width = torch.Generator().manual_seed(n), 64
    z, g = (torch.randn(n, width, dtype=dtype, generator=generator) for _ in range(2))
    gain, shift, bias = (torch.randn(n, dtype=dtype, generator=generator) for _ in range(3))
    leaves = [t.clone().requires_grad_() for t in (z, gain, shift, bias)]
    shifted = leaves[0].T + (leaves[3] - bias)  # a bias of which z already contains the value
    expected = F.relu(F.layer_norm(shifted, (n,), leaves[1], leaves[2], 1e-5)).T
    expected.backward(g)
    vectors = (0,) * (width // count_lanes(dtype.itemsize))
    y, statistics, to_z = torch.empty_like(z), torch.empty(4, width, dtype=dtype), g.clone()
    epsilon = torch.tensor(1e-5, dtype=dtype).numpy()[()]
    call_normalize(vectors, n, epsilon, z.numpy(), gain.numpy(), shift.numpy(), statistics.numpy(), y.numpy())
    torch.testing.assert_close(y, expected.detach())
    sums = [torch.ones(n, dtype=dtype) for _ in range(3)]  # the sums of a tile are added
    arrays = [t.numpy() for t in (z, gain, statistics, y, to_z, *sums)]
    call_normalize_backward(vectors, n, *arrays)
    tolerance = {"atol": 1e-3, "rtol": 1e-3} if dtype == torch.float32 else {}
    torch.testing.assert_close(to_z, leaves[0].grad, **tolerance)
    for total, leaf in zip(sums, (leaves[3], leaves[1], leaves[2]), strict=True):
        torch.testing.assert_close(total - 1, leaf.grad, **tolerance)


def test_rows_are_summed():
    tile, sums = np.random.default_rng(0).random((9, 32)), np.ones(9)
    call_sum_rows((0,) * 4, 9, tile, sums)
    np.testing.assert_allclose(sums, 1 + tile.sum(axis=1))
