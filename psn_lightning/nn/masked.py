"""Masked storage: a dense weight and a boolean mask; runs on any device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psn_lightning.nn.sparse_linear import SparseLinear
from psn_lightning.topology import Connectivity


class _MaskGradient(torch.autograd.Function):
    """Identity on the weight whose backward pass multiplies the gradient with the mask."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


class MaskedLinear(SparseLinear):
    """W ⊙ M kept as one dense tensor that is zero wherever the mask is (section 2.4).

    The product with the mask is taken where it costs least: the weight is zero off the mask by
    construction, and the backward pass masks the gradient, so any optimizer leaves the zeros alone.
    """

    active: Tensor

    def _create(self, connectivity: Connectivity, values: Tensor) -> None:
        self.register_buffer("active", torch.zeros(self.out_features, self.in_features, dtype=torch.bool))
        self.weight = nn.Parameter(torch.zeros(self.out_features, self.in_features))
        with torch.no_grad():
            self._load(connectivity, values)

    def _load(self, connectivity: Connectivity, values: Tensor) -> None:
        self.active.copy_(torch.from_numpy(connectivity.mask()))
        self.weight.zero_()
        self.weight[self.active] = values.to(self.weight)
        self._note_full()

    def _note_full(self) -> None:
        self._full = bool(self.active.all())  # the dense baseline pays nothing for its mask

    @property
    def connectivity(self) -> Connectivity:
        """See the interface."""
        return Connectivity.from_mask(self.active.cpu().numpy())

    @property
    def fan_in(self) -> Tensor:
        """See the interface."""
        return self.active.sum(dim=1)

    @property
    def mask(self) -> Tensor:
        """See the interface."""
        return self.active

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_features)`` to ``(batch, out_features)``."""
        masks_gradient = not (self._full or self.record_dense_gradient)
        weight = _MaskGradient.apply(self.weight, self.active) if masks_gradient else self.weight
        return F.linear(x, weight, self.bias)

    def active_positions(self) -> Tensor:
        """See the interface."""
        return self.active.flatten().nonzero().squeeze(1)

    @torch.no_grad()
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """See the interface."""
        mask = torch.zeros_like(self.active)
        mask.view(-1)[positions] = True
        changed, stayed = self.active ^ mask, int((self.active & mask).sum())
        for tensor in (self.weight, *moments):
            tensor.masked_fill_(changed, 0)
        self.active.copy_(mask)
        self._note_full()
        return stayed

    def compress(self, moment: Tensor) -> Tensor:
        """See the interface."""
        return moment[self.active]

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """See the interface."""
        dense = moment.new_zeros(self.out_features, self.in_features)
        dense.view(-1)[positions] = moment
        return dense

    @torch.no_grad()
    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """See the interface."""
        if not self._full:
            for tensor in (self.weight, *moments):
                tensor.mul_(self.active)

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """See the interface."""
        if self.weight.grad is not None and not self._full:
            self.weight.grad.mul_(self.active)

    def active_values(self) -> Tensor:
        """See the interface."""
        return self.weight.detach()[self.active]

    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """See the interface."""
        if self.weight.grad is None or not (self.record_dense_gradient or self._full):
            raise RuntimeError("no dense gradient: set record_dense_gradient before the forward pass")
        return self.weight.grad[neurons]

    def gradient_magnitude(self) -> Tensor:
        """See the interface."""
        if self.weight.grad is None:
            raise RuntimeError("no gradient yet: call it between the backward pass and the optimizer step")
        return (self.weight.grad.abs() * self.active).sum(dim=1)
