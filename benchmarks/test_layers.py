"""Forward and backward pass of one layer: csr, masked, dense torch, torch.sparse CSR, and sparselab."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.conftest import Durations, in_turn
from psn_lightning.nn import MaskedLayer
from psn_lightning.nn.init import initial_values
from psn_lightning.nn.storages import make_csr_linear
from psn_lightning.topology import Bernoulli, LayerBudget, spread

sparselab = pytest.importorskip("sparselab", reason="the comparison needs the extra bench")

WIDTHS, BATCHES, SPARSITIES = (512, 1024, 2048, 4096), (32, 128, 512), (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
SHAPES = [(width, batch) for width in WIDTHS for batch in BATCHES]
POSSIBLE = {width: [s for s in SPARSITIES if s <= 1 - 1 / width] for width in WIDTHS}  # fan-in of at least 1
SPARSE = ("csr", "torch csr", "sparselab")  # their time depends on the sparsity


class TorchCSR(nn.Module):
    """Layer with the CSR product of torch.sparse, whose gradient to the weight is dense."""

    def __init__(self, dense: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(dense.to_sparse_csr())

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``x Wᵀ``."""
        return (self.weight @ x.T).T


def layer_of(kind: str, width: int, sparsity: float) -> nn.Module:
    """Make a square layer with random connections."""
    if kind == "dense torch":
        return nn.Linear(width, width)
    if kind == "sparselab":
        return sparselab.SparseLinear(width, width, sparsity=sparsity)
    rng = np.random.default_rng(0)
    connectivity = spread(Bernoulli().fan_in(LayerBudget(width, width, sparsity), rng), width, "random", rng)
    if kind == "torch csr":
        return TorchCSR(torch.from_numpy(connectivity.mask()) * torch.randn(width, width))
    values = torch.from_numpy(initial_values(connectivity, "mean_fan_in", rng)).float()
    if kind == "csr":
        return make_csr_linear(connectivity, values, torch.zeros(width))
    linear = nn.Linear(width, width)
    MaskedLayer(linear, "weight", connectivity).set_values(values)
    return linear


def pass_of(layer: nn.Module, width: int, batch: int) -> Callable[[], None]:
    """Make the function that runs a forward and a backward pass, with gradients to weights, bias and input."""
    x, g = torch.randn(batch, width, requires_grad=True), torch.randn(batch, width)
    parameters = list(layer.parameters())

    def forward_backward() -> None:
        x.grad = None
        for parameter in parameters:
            parameter.grad = None
        layer(x).backward(g)

    return forward_backward


@functools.cache
def measured(width: int, batch: int) -> Durations:
    """Measure all kinds and sparsities of one shape in turn."""
    kinds = [("dense torch", 0.0), ("masked", 0.9), *((kind, s) for s in POSSIBLE[width] for kind in SPARSE)]
    candidates = {f"{kind} {s:g}": pass_of(layer_of(kind, width, s), width, batch) for kind, s in kinds}
    return in_turn(candidates, seconds=0.6)


@pytest.mark.parametrize(
    ("width", "batch", "kind", "sparsity"), [(w, b, k, s) for w, b in SHAPES for k in SPARSE for s in POSSIBLE[w]]
)
def test_sparse_layer(report, width: int, batch: int, kind: str, sparsity: float) -> None:
    durations = measured(width, batch)
    report(durations[f"{kind} {sparsity:g}"], part="layer", width=width, batch=batch, kind=kind, sparsity=sparsity)


@pytest.mark.parametrize("kind", ["dense torch", "masked"])
@pytest.mark.parametrize(("width", "batch"), SHAPES)
def test_dense_layer(report, width: int, batch: int, kind: str) -> None:
    durations = measured(width, batch)
    key = next(key for key in durations if key.startswith(kind))
    report(durations[key], part="layer", width=width, batch=batch, kind=kind, sparsity=None)
