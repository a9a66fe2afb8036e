"""What the storages cost: one layer, one RigL update, one topology. Run with ``make bench``."""

import numpy as np
import pytest
import torch
from torch import nn

from psn_lightning.dynamics import RigLRule, update_layer
from psn_lightning.nn import SparseLinear
from psn_lightning.nn.storages import layer_class
from psn_lightning.topology import Bernoulli, LayerBudget, Lognormal, Topology, spread

WIDTH, BATCH = 1024, 128


def layer_of(kind: type[SparseLinear], sparsity: float) -> SparseLinear:
    """A square layer with random connections."""
    rng = np.random.default_rng(0)
    fan_in = Bernoulli().fan_in(LayerBudget(WIDTH, WIDTH, sparsity), rng)
    return kind(spread(fan_in, WIDTH, "random", rng), "mean_fan_in", rng)


def forward_backward(layer: nn.Module, x: torch.Tensor) -> None:
    """One pass each way, as in training."""
    layer.zero_grad()
    layer(x).square().mean().backward()


@pytest.mark.benchmark(group="layer 1024 × 1024, batch 128: forward + backward")
@pytest.mark.parametrize("kind", ["dense torch", "masked", "csr"])
@pytest.mark.parametrize("sparsity", [0.8, 0.9, 0.95, 0.98, 0.99])
def test_layer(benchmark, kind: str, sparsity: float) -> None:
    layer = nn.Linear(WIDTH, WIDTH) if kind == "dense torch" else layer_of(layer_class(kind), sparsity)
    benchmark(forward_backward, layer, torch.randn(BATCH, WIDTH, requires_grad=True))


@pytest.mark.benchmark(group="one RigL update of one layer 1024 × 1024 at 90%")
@pytest.mark.parametrize("kind", ["masked", "csr"])
def test_topology_update(benchmark, kind: str) -> None:
    layer = layer_of(layer_class(kind), 0.9)
    optimizer = torch.optim.Adam(layer.parameters())
    layer.record_dense_gradient = True
    forward_backward(layer, torch.randn(BATCH, WIDTH))
    benchmark(update_layer, layer, RigLRule(), 0.3, optimizer, torch.Generator())


@pytest.mark.benchmark(group="building a topology 784–1024–1024–10 at 90%")
@pytest.mark.parametrize("family", [Bernoulli(), Lognormal(2.0)], ids=repr)
@pytest.mark.parametrize("spreading", ["even", "random"])
def test_build(benchmark, family, spreading) -> None:
    benchmark(Topology(family, 0.9).connect, [784, 1024, 1024, 10], spreading, 42)
