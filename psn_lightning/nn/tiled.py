"""A stack of sparse layers as one autograd function: batches become tiles once, and stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from psn_lightning.nn.kernels.network import LAYER, backward, forward
from psn_lightning.nn.kernels.pool import run
from psn_lightning.nn.structure import Structure

_WIDTHS = (64, 32, 16)  # columns of a tile: the widest amortises best, the others serve small batches and many threads
_EVALUATED_AT_ONCE = 256  # rows; without gradients nothing needs them together, and so many stay in the cache


@dataclass(frozen=True)
class Stage:
    """A product with sparse weights, ``z = x Wᵀ + b``; but for the last of a stack, LayerNorm and ReLU follow."""

    structure: Structure
    parameters: Sequence[Tensor]
    """Values in CSR order and bias; where LayerNorm follows, its weight and bias."""
    epsilon: float | None = None
    """LayerNorm's; None: nothing follows."""
    note: Callable[[Tensor, Tensor], None] | None = None
    """Told the tiles of ``x`` and of the gradient to ``z`` after every backward pass."""


@torch.compiler.disable  # type: ignore[untyped-decorator]  # the kernels are compiled already
def tiled(stages: Sequence[Stage], x: Tensor) -> Tensor:
    """Take a batch through a stack: ``(batch, n_in)`` → ``(batch, n_out)``.

    Raises:
        RuntimeError: If it is not on a CPU, or the parameters are neither float32 nor float64.
    """
    dtype = stages[0].parameters[0].dtype
    if x.device.type != "cpu":
        raise RuntimeError("storage csr runs on CPUs only: set model.storage to masked, or trainer.accelerator to cpu")
    if dtype not in {torch.float32, torch.float64}:
        raise RuntimeError(
            f"storage csr computes in float32 or float64, not {dtype}: set trainer.precision to 32-true or 64-true, "
            "or model.storage to masked"
        )
    keeps = torch.is_grad_enabled()
    parameters = [parameter for stage in stages for parameter in stage.parameters]
    parts = (x,) if keeps else x.split(_EVALUATED_AT_ONCE)
    results = [_Stack.apply(part.to(dtype).contiguous(), stages, keeps, *parameters) for part in parts]
    return results[0] if len(results) == 1 else torch.cat(results)


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stages: Sequence[Stage], keeps: bool, *parameters: Tensor) -> Tensor:
        width = _width(len(x))
        n_tiles = -(-len(x) // width)
        layers = np.zeros(len(stages), LAYER)
        inputs, others = [x.new_empty(n_tiles, x.shape[1], width)], []
        for layer, stage in zip(layers, stages, strict=True):
            _fill(layer, stage.structure.rows_as_integers())
            z = x.new_empty(n_tiles, stage.structure.shape[0], width)
            tensors = {"values": stage.parameters[0], "bias": stage.parameters[1], "x": inputs[-1], "z": z}
            if stage.epsilon is not None:
                y = torch.empty_like(z) if keeps else z
                statistics, epsilon = x.new_empty(n_tiles, 2, width), x.new_full((1,), stage.epsilon)
                tensors |= {"gain": stage.parameters[2], "shift": stage.parameters[3]}
                tensors |= {"y": y, "statistics": statistics, "epsilon": epsilon}
                inputs.append(y)
                others += [statistics, epsilon]
            _fill(layer, {name: tensor.data_ptr() for name, tensor in tensors.items()})
            others.append(z)
        result = x.new_empty(len(x), stages[-1].structure.shape[0])
        _run(forward, inputs[0], len(x), layers, x, result)
        ctx.stages, ctx.layers = stages, layers
        ctx.save_for_backward(*inputs, *others, *parameters)
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        stages, layers, x = ctx.stages, ctx.layers.copy(), ctx.saved_tensors[0]
        inputs = ctx.saved_tensors[: len(stages)]
        needs_x = ctx.needs_input_grad[0]
        to_inputs = [torch.empty_like(tiles) if needs_x or tiles is not x else None for tiles in inputs]
        n_tiles, n_in, width = x.shape
        outputs = [*to_inputs[1:], x.new_empty(n_tiles, gradient.shape[1], width)]
        sizes = [parameter.numel() for stage in stages for parameter in stage.parameters]
        places = iter([0, *accumulate(sizes)])
        for layer, stage, to_x, g in zip(layers, stages, to_inputs, outputs, strict=True):
            _fill(layer, {"g": g.data_ptr()})
            _fill(layer, dict(zip(_PLACES[: len(stage.parameters)], places, strict=False)))
            if to_x is not None:
                _fill(layer, stage.structure.columns_as_integers() | {"to_x": to_x.data_ptr()})
        to_parameters = x.new_empty(n_tiles, sum(sizes))
        to_batch = x.new_empty(len(gradient), n_in) if needs_x else None
        gradient = gradient.to(x.dtype).contiguous()
        _run(backward, x, len(gradient), layers, gradient, to_batch, to_parameters)
        for stage, tiles, g in zip(stages, inputs, outputs, strict=True):
            if stage.note is not None:
                stage.note(tiles, g)
        total = to_parameters.sum(dim=0) if n_tiles > 1 else to_parameters[0]
        shapes = [parameter.shape for stage in stages for parameter in stage.parameters]
        parts = [part.view(shape) for part, shape in zip(total.split(sizes), shapes, strict=True)]
        return to_batch, None, None, *parts


_PLACES = ("to_values", "to_bias", "to_gain", "to_shift")


def _width(n_rows: int) -> int:
    """The widest tile that leaves no thread without one."""
    n_threads = torch.get_num_threads()
    return next((width for width in _WIDTHS if n_rows > width * (n_threads - 1)), _WIDTHS[-1])


def _fill(layer: Any, fields: dict[str, int]) -> None:
    for name, value in fields.items():
        layer[name] = value


def _run(kernel: Callable[[int, int], int], tiles: Tensor, n_rows: int, layers: NDArray[Any], *others: Tensor | None) -> None:
    """Run a kernel, compiled for the tiles' number type and width, on as many threads as torch uses."""
    n_tiles, _, width = tiles.shape
    shape = (n_tiles, n_rows, len(layers), layers.ctypes.data)
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in others]
    run(kernel(tiles.element_size(), width), torch.get_num_threads(), *shape, *addresses)
