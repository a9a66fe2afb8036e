"""What the masked storage costs: one layer, one RigL update, one topology. Run with ``make bench``."""

import numpy as np
import pytest
import torch
from torch import nn

from psn_lightning.dynamics import RigLRule, update_layer
from psn_lightning.nn import MaskedLinear
from psn_lightning.topology import Bernoulli, Connectivity, LayerBudget, Lognormal, Topology, spread

WIDTH, BATCH = 1024, 128


def masked_layer(sparsity: float) -> MaskedLinear:
    """A square layer with random connections."""
    rng = np.random.default_rng(0)
    fan_in = Bernoulli().fan_in(LayerBudget(WIDTH, WIDTH, sparsity), rng)
    return MaskedLinear(spread(fan_in, WIDTH, "random", rng), "mean_fan_in", rng)


def forward_backward(layer: nn.Module, x: torch.Tensor) -> None:
    """One pass each way, as in training."""
    layer.zero_grad()
    layer(x).square().mean().backward()


@pytest.mark.benchmark(group="layer 1024 × 1024, batch 128: forward + backward")
@pytest.mark.parametrize("kind", ["dense torch", "masked 90%", "masked full"])
def test_layer(benchmark, kind: str) -> None:
    layer = {
        "dense torch": lambda: nn.Linear(WIDTH, WIDTH),
        "masked 90%": lambda: masked_layer(0.9),
        "masked full": lambda: MaskedLinear(Connectivity.full(WIDTH, WIDTH), "mean_fan_in", np.random.default_rng(0)),
    }[kind]()
    benchmark(forward_backward, layer, torch.randn(BATCH, WIDTH, requires_grad=True))


@pytest.mark.benchmark(group="one RigL update of one layer 1024 × 1024 at 90%")
def test_topology_update(benchmark) -> None:
    layer = masked_layer(0.9)
    optimizer = torch.optim.Adam(layer.parameters())
    layer.record_dense_gradient = True
    forward_backward(layer, torch.randn(BATCH, WIDTH))
    benchmark(update_layer, layer, RigLRule(), 0.3, optimizer, torch.Generator())


@pytest.mark.benchmark(group="building a topology 784–1024–1024–10 at 90%")
@pytest.mark.parametrize("family", [Bernoulli(), Lognormal(2.0)], ids=repr)
@pytest.mark.parametrize("spreading", ["even", "random"])
def test_build(benchmark, family, spreading) -> None:
    benchmark(Topology(family, 0.9).connect, [784, 1024, 1024, 10], spreading, 42)
