"""Tensors of an optimizer that move with the weights."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer


def moments_of(layer: SparseLayer, optimizer: Optimizer | None) -> list[Tensor]:
    """Return the optimizer's tensors that have the shape of the layer's parameter, such as Adam's two moments.

    Scalars (a step counter) and tensors that broadcast over the parameter (row and column variances of Adafactor)
    belong to no single connection; they are left out.

    Args:
        layer: Sparse layer.
        optimizer: Optimizer that holds the layer's parameter; None if there is none.

    Returns:
        State tensors in the layout of :attr:`SparseLayer.parameter`; empty before the first optimizer step.

    Raises:
        SettingError: If a state tensor has another shape, so that its elements cannot be assigned to connections.
    """
    shape = layer.parameter.shape
    state = {} if optimizer is None else optimizer.state.get(layer.parameter, {})
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.dim() > 0}
    for key, value in tensors.items():
        if value.dim() > len(shape) or any(
            a not in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False)
        ):
            raise SettingError(
                f"{type(optimizer).__name__} keeps state {key!r} of shape {tuple(value.shape)} for a weight of shape "
                f"{tuple(shape)}, which cannot move with the connections: use Adam, AdamW, SGD or Adafactor"
            )
    return [value for value in tensors.values() if value.shape == shape]
