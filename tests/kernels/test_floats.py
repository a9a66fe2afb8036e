"""Kernels treat subnormal numbers as 0, and leave the mode of the thread as it was."""

import platform

import numpy as np
import pytest
import torch
from numba import njit

from psn_lightning.kernels.floats import flush_subnormals, restore_mode
from psn_lightning.nn.storages import make_csr_linear
from psn_lightning.topology import Connectivity


@njit
def square(x, flushes):
    """The square as seen within the mode, and after it."""
    if flushes:
        mode = flush_subnormals()
        inside = x[0] * x[0]
        restore_mode(mode)
    else:
        inside = x[0] * x[0]
    return inside, x[0] * x[0]


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="the mode exists on x86-64 only")
@pytest.mark.parametrize(("dtype", "tiny"), [(np.float32, 1e-20), (np.float64, 1e-160)])
def test_subnormal_results_are_zero_within_the_mode_only(dtype, tiny):
    x = np.array([tiny], dtype)
    inside, after = square(x, True)
    assert inside == 0
    assert after == square(x, False)[0] > 0


def test_layers_treat_subnormal_numbers_as_zero_and_their_callers_do_not():
    layer = make_csr_linear(Connectivity.full(5, 4), torch.full((20,), 1e-20), torch.zeros(4))
    assert not layer(torch.full((3, 5), 1e-20)).any()
    tiny = torch.full((3,), 1e-20)
    assert (tiny * tiny).any()
