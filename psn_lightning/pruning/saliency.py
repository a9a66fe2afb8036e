"""Base of the saliencies, and those that need one gradient or none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from psn_lightning.errors import SettingError
from psn_lightning.pruning.twin import Twin, differentiate

Scope = Literal["network", "layer"]
"""Connections that are compared with each other, those of the network or of each layer."""


class Saliency(ABC):
    """Importance of each connection; those with the lowest are pruned.

    A saliency of one's own is a subclass with a method :meth:`scores`.
    """

    rounds: int = 1
    """Number of rounds of scoring and pruning."""
    batches: int | None = 0
    """Number of training batches that :meth:`scores` reads by default; None: all."""
    scope: Scope = "network"
    """Whether scores are compared over the whole network or within each layer, by default."""

    @abstractmethod
    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Score the connections.

        Args:
            twin: Copy of the network; it may be changed.
            batches: Training batches.
            generator: Random generator on the CPU.

        Returns:
            Scores by layer name, shape ``(n_out, n_in)``; those of absent connections are not read.
        """

    def complete(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """See the masks after a round; a saliency with a structure may remove what does not fit into it.

        Args:
            masks: Masks by layer name, shape ``(n_out, n_in)``.
        """
        return masks


@dataclass(frozen=True)
class RandomScores(Saliency):
    """Random scores: the control of every other saliency."""

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw scores from U(0, 1)."""
        return {
            name: torch.rand(mask.shape, generator=generator, dtype=torch.float64) for name, mask in twin.masks.items()
        }


@dataclass(frozen=True)
class Magnitude(Saliency):
    """Magnitude of the weights (Han et al., 2015, arXiv 1506.02626)."""

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute |w|."""
        return twin.as_matrices(weight.abs() for weight in twin.weights.values())


@dataclass(frozen=True)
class SNIP(Saliency):
    """Connection sensitivity, the magnitude of w ∂L/∂w: how much the loss changes when a connection is scaled.

    Source: Lee et al., 2019, arXiv 1810.02340, section 4. Of several batches the gradient is summed before the
    magnitude is taken.
    """

    batches = 1

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute |w ∂L/∂w|.

        Raises:
            SettingError: If no batch is given.
        """
        weights = list(twin.weights.values())
        gradient = _sum_gradients(twin.losses(need(batches, "SNIP")), weights)
        return twin.as_matrices((w * g).abs() for w, g in zip(weights, gradient, strict=True))


@dataclass(frozen=True)
class GraSP(Saliency):
    """Gradient signal preservation, w Hg with its sign: connections whose removal lowers the gradient's norm stay.

    Source: Wang et al., 2020, arXiv 2002.07376, section 3. g is the gradient of all trainable parameters and H the
    Hessian of the loss. The logits are divided by a temperature.

    Args:
        temperature: Divisor of the logits, above 0.

    Raises:
        SettingError: If the temperature is not above 0.
    """

    temperature: float = 200.0
    batches = 1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise SettingError(f"temperature {self.temperature} must be above 0")

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute w Hg.

        Raises:
            SettingError: If no batch is given.
        """
        weights, parameters = list(twin.weights.values()), twin.parameters()
        gradient = _sum_gradients(twin.losses(need(batches, "GraSP"), self.temperature), parameters)

        def multiply(loss: Tensor) -> Tensor:
            """Multiply the gradient of a batch by that of all."""
            parts = differentiate(loss, parameters, create_graph=True)
            return torch.stack([(part * whole).sum() for part, whole in zip(parts, gradient, strict=True)]).sum()

        products = _sum_gradients(map(multiply, twin.losses(batches, self.temperature)), weights)
        return twin.as_matrices(w * p for w, p in zip(weights, products, strict=True))


def _sum_gradients(values: Iterable[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sum the gradients of scalars, one at a time."""
    total = [torch.zeros_like(tensor) for tensor in tensors]
    for value in values:
        for sum_, part in zip(total, differentiate(value, tensors), strict=True):
            sum_ += part
    return total


def need(batches: Sequence[Any], name: str) -> Sequence[Any]:
    """Return the batches of a saliency.

    Raises:
        SettingError: If none is given.
    """
    if not batches:
        raise SettingError(f"{name} needs a batch of training data: give prune(…, batches=[…])")
    return batches
