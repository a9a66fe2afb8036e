"""Sparse Linears of all storages for tests."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from psn_lightning.nn import MaskedLayer, SparseLayer
from psn_lightning.nn.init import initial_values
from psn_lightning.nn.storages import make_active_linear
from psn_lightning.topology import Connectivity

STORAGES = ["masked", "csr"]
"""Storages of any connections."""


class SparseLinear(NamedTuple):
    """Sparse Linear: the module to call, and the sparse view of its weight."""

    module: nn.Module
    view: SparseLayer

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x)

    @property
    def weight(self) -> nn.Parameter:
        """Parameter in the layout of the storage."""
        return self.view.parameter


def sparse_linear(connectivity, storage="masked", dtype=torch.float32, seed=0):
    """Make a Linear with given connections, random weights and a bias of zeros; equal in all storages.

    Args:
        connectivity: Connections of the layer.
        storage: Storage of the weights, ``masked``, ``csr`` or, where the connectivity has groups, ``groups``.
        dtype: Number type of the parameters.
        seed: Seed of the weights, or a generator.
    """
    values = torch.from_numpy(initial_values(connectivity, "mean_fan_in", np.random.default_rng(seed))).to(dtype)
    bias = torch.zeros(connectivity.n_out, dtype=dtype)
    if storage != "masked":
        made = make_active_linear(storage, connectivity, values, bias)
        return SparseLinear(made, made)
    linear = nn.utils.skip_init(nn.Linear, connectivity.n_in, connectivity.n_out, dtype=dtype)
    linear.bias.data.copy_(bias)
    view = MaskedLayer(linear, "weight", connectivity)
    view.set_values(values)
    return SparseLinear(linear, view)


def random_linear(n_in=13, n_out=11, density=0.4, seed=0, storage="masked", dtype=torch.float32):
    """Make a sparse Linear with random connections."""
    rng = np.random.default_rng(seed)
    return sparse_linear(Connectivity.from_mask(rng.random((n_out, n_in)) < density), storage, dtype, rng)


def drawn(n_in, n_out, density, seed=0):
    """Draw a random mask of shape ``(n_out, n_in)``."""
    return np.random.default_rng(seed).random((n_out, n_in)) < density


def pair(mask, dtype=torch.float64):
    """Make two Linears with equal connections, weights and biases, in storage csr and in storage masked."""
    connectivity = Connectivity.from_mask(mask)
    linears = [sparse_linear(connectivity, storage, dtype, seed=1) for storage in ("csr", "masked")]
    for linear in linears:
        linear.module.bias.data.copy_(torch.linspace(-1, 1, connectivity.n_out))
    return linears
