"""Gradients of an optimizer's parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.nn.torch_private import is_held


def list_gradients(optimizer: Optimizer) -> list[Tensor]:
    """List the gradients of the parameters that an optimizer holds; parameters without one are left out."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def are_gradients_finite(optimizer: Optimizer) -> bool:
    """Return whether all gradients are finite, and nothing holds the optimizer's step; waits for the device."""
    gradients = list_gradients(optimizer)
    if not gradients or is_held(optimizer):
        return not gradients
    # A sum takes a twentieth of the time of looking at each element. It may overflow where each is finite.
    sums = torch.stack([gradient.sum(dtype=torch.float32) for gradient in gradients])
    return math.isfinite(sums.sum()) or all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
