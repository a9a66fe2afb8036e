"""Sparse weights that are a function of dense latent weights, which the optimizer steps instead of them.

Between two optimizer steps the layer is an ordinary masked layer: the parameter holds the effective weights, the mask
their connections, so that evaluation, checkpoints, averages and export need to know nothing of the method. For the time
of a step the parameter holds the latent weights, and its gradient is the loss's gradient to them. What is written into
the parameter between two steps lasts until the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from psn_lightning.nn import MaskedLayer


class LatentLayer(ABC):
    """Layer whose weights are a function of latent weights θ.

    A loop of one's own trains them like this::

        latent.refresh()  # before the first step
        loss.backward()
        latent.before_step()
        optimizer.step()
        latent.after_step()

    A step does not wait for the device.

    Args:
        layer: Layer to train; its weights become the latent ones.
    """

    def __init__(self, layer: MaskedLayer) -> None:
        self.layer = layer
        self.latent = layer.parameter.detach().clone()
        """Latent weights θ, in the shape of the parameter."""
        self.is_stepping = False
        """Whether the parameter holds the latent weights, between :meth:`before_step` and :meth:`after_step`."""

    @property
    def own_parameter(self) -> nn.Parameter | None:
        """Parameter of the function itself, which the optimizer of the weight has to hold too; None without one."""
        return None

    @abstractmethod
    def refresh(self, moments: Iterable[Tensor] = ()) -> None:
        """Compute mask and effective weights from the latent ones; to be called between two steps.

        Args:
            moments: Optimizer tensors in the shape of the parameter; set to 0 where a method says so.
        """

    @torch.no_grad()
    def before_step(self) -> None:
        """Give the optimizer the latent weights and the gradient to them; nothing for a weight without gradient."""
        weight = self.layer.parameter
        if weight.grad is None or self.is_stepping:
            return
        self.is_stepping = True
        self._convert_gradient(weight.grad)
        weight.copy_(self.latent)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the latent weights, and compute the effective ones; nothing unless :meth:`before_step` preceded."""
        if self.is_stepping:
            self.is_stepping = False
            self._take_step(self.layer.parameter)

    def release(self) -> None:
        """End the method: the layer keeps its effective weights, and trains on as an ordinary sparse layer."""
        self.after_step()
        self.layer.trained = None

    def state_dict(self) -> dict[str, Tensor]:
        """Latent weights, and what a subclass adds; copies on the CPU."""
        return {"latent": self.latent.cpu().clone()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state of :meth:`state_dict`, beside weights and mask of the layer, which the module restores."""
        self.latent.copy_(state_dict["latent"])

    @abstractmethod
    def _convert_gradient(self, gradient: Tensor) -> None:
        """Turn the gradient to the effective weights into the gradient to the latent ones, in place."""

    @abstractmethod
    def _take_step(self, stepped: Tensor) -> None:
        """Keep the latent weights that the optimizer has stepped, and overwrite them with the effective ones."""


def optimizer_group_of(parameter: nn.Parameter, optimizer: Optimizer) -> dict[str, Any] | None:
    """Return the parameter group of an optimizer that holds a parameter; None if it does not hold it."""
    groups = optimizer.param_groups
    return next((group for group in groups if any(held is parameter for held in group["params"])), None)
