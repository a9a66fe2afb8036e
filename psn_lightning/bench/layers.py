"""Forward and backward pass of one layer: csr, masked, dense torch, torch.sparse CSR, and sparselab if it is there."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from psn_lightning.bench.timing import Row, summarise, time_in_turn
from psn_lightning.nn import MaskedLayer
from psn_lightning.nn.init import initial_values
from psn_lightning.nn.storages import make_csr_linear
from psn_lightning.topology import Bernoulli, LayerBudget, spread

_DENSE_UP_TO = 16384  # widths beyond have no dense weight in memory
_MATRIX_UP_TO = 8192  # torch.sparse has a dense gradient of the weight; masked multiplies a dense one


class TorchCSR(nn.Module):
    """Layer with the CSR product of torch.sparse, whose gradient to the weight is dense."""

    def __init__(self, dense: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(dense.to_sparse_csr())

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``x Wᵀ``."""
        return (self.weight @ x.T).T


def make_layer(kind: str, width: int, sparsity: float) -> nn.Module:
    """Make a square layer with random connections; kinds are those of :func:`list_kinds`."""
    if kind == "dense":
        return nn.Linear(width, width)
    if kind == "sparselab":
        import sparselab

        layer: nn.Module = sparselab.SparseLinear(width, width, sparsity=sparsity)
        return layer
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


def list_kinds(width: int) -> list[str]:
    """List the kinds of layer that a machine of ordinary memory can train at a width."""
    kinds = ["csr", "dense"] if width <= _DENSE_UP_TO else ["csr"]
    if importlib.util.find_spec("sparselab") is not None:
        kinds.append("sparselab")
    return kinds + (["masked", "torch csr"] if width <= _MATRIX_UP_TO else [])


def make_pass(layer: nn.Module, width: int, batch: int) -> Callable[[], None]:
    """Make the function that runs a forward and a backward pass, with gradients to weights, bias and input."""
    x, g = torch.randn(batch, width, requires_grad=True), torch.randn(batch, width)
    parameters = list(layer.parameters())

    def run() -> None:
        x.grad = None
        for parameter in parameters:
            parameter.grad = None
        layer(x).backward(g)

    return run


def measure_layers(
    widths: tuple[int, ...], batches: tuple[int, ...], sparsities: tuple[float, ...], seconds: float
) -> Iterator[Row]:
    """Measure layers of all shapes and sparsities that leave every neuron an input; the kinds take turns.

    Args:
        widths: Numbers of inputs and of neurons.
        batches: Numbers of rows.
        sparsities: Sparsities.
        seconds: Seconds for each kind.

    Yields:
        Rows with ``width``, ``batch``, ``sparsity`` and ``kind``.
    """
    alive = []  # sparselab finds a layer's transpose by its id, which a layer that was freed would leave to another
    for width in widths:
        for sparsity in (s for s in sparsities if (1 - s) * width >= 1):
            layers = {kind: make_layer(kind, width, sparsity) for kind in list_kinds(width)}
            alive.append(layers.get("sparselab"))
            for batch in batches:
                calls = {kind: make_pass(layer, width, batch) for kind, layer in layers.items()}
                for kind, durations in time_in_turn(calls, seconds).items():
                    yield summarise(durations, part="layer", kind=kind, width=width, batch=batch, sparsity=sparsity)
