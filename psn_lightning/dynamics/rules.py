"""Rules: how connections are scored. A new method is a new rule, never a new callback."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from psn_lightning.errors import SettingError
from psn_lightning.topology import check_sparsity


@dataclass(frozen=True)
class LayerState:
    """What the counts of an update depend on."""

    name: str
    n_out: int
    n_in: int
    n_active: int
    """Connections now."""
    n_initial: int
    """Connections at the start of the run."""


class Rule(ABC):
    """How a dynamic method scores connections; the engine does the rest.

    Scores are compared within one layer. Ties are broken by position, so equal inputs give equal masks.
    """

    needs_gradient: bool = True
    """Whether :meth:`grow_scores` reads the dense gradient."""
    may_return: bool = True
    """Whether a connection that has just been dropped is a candidate for growth."""

    def check(self, layer: LayerState) -> None:  # noqa: B027  # most rules work on any layer
        """Refuse a layer that the rule cannot work on; called before training.

        Raises:
            SettingError: With the remedy.
        """

    def prepare(self, weights: Mapping[str, Tensor], fraction: float) -> None:  # noqa: B027  # most look at one layer
        """See all layers at once, before the first of them is updated.

        Args:
            weights: Weights of each layer's active connections, shape ``(n_connections,)``.
            fraction: What the schedule says, in [0, 1].
        """

    def counts(self, fraction: float, layer: LayerState) -> tuple[int, int]:
        """How many connections to drop and to grow; here the share ``fraction`` is replaced.

        Args:
            fraction: What the schedule says, in [0, 1].
            layer: The layer's numbers.
        """
        n = int(fraction * layer.n_active)
        return n, n

    @abstractmethod
    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """Score the active connections; the lowest are dropped.

        Args:
            weight: Weights of the layer's active connections, shape ``(n_connections,)``.
            neuron: Index of the neuron that each of them feeds, int64, same shape.

        Returns:
            Same shape.
        """

    @abstractmethod
    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Score the candidates; the highest are grown.

        Args:
            gradient: Dense gradient of the loss to a block of neurons, shape ``(neurons, n_in)``; without
                meaning where :attr:`needs_gradient` is False.
            mask: Connections of these neurons that have just survived the drop, boolean, same shape.
            generator: Source of randomness (on the CPU), in the same state on every process.

        Returns:
            Same shape; values where ``mask`` is set are ignored.
        """


class StructuredRule(Rule):
    """A rule that prescribes how many connections each neuron has after an update."""

    @abstractmethod
    def fan_in(self, salient: Tensor, layer: LayerState) -> Tensor:
        """Fan-in of every neuron after the update.

        Args:
            salient: Connections that each neuron would have if they competed over the whole layer, int64,
                shape ``(n_out,)``.
            layer: The layer's numbers.

        Returns:
            Int64, shape ``(n_out,)``, each at most ``n_in``; 0 removes the neuron.
        """


class RigLRule(Rule):
    """Drop the smallest magnitudes, grow the largest gradients (Evci et al., 2020, section 3).

    A connection that has just been dropped is a candidate too, as in the authors' code; if it grows back
    it keeps its weight and moments.
    """

    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """|weight|."""
        return weight.abs()

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """|gradient|."""
        return gradient.abs()


class SETRule(Rule):
    """Drop the positives and the negatives nearest zero, grow at random (Mocanu et al., 2018, Algorithm 1).

    Each sign loses the same share of its own connections. New connections start at 0, not at a random
    weight, as with every rule here.
    """

    needs_gradient = False

    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """Rank of the magnitude among the weights of the same sign, as a share of their number; NaN is the lowest."""
        scores = torch.zeros_like(weight, dtype=torch.float64)
        for sign in (weight >= 0, weight < 0):
            index = sign.nonzero().squeeze(1)
            order = weight[index].abs().argsort(stable=True)
            rank = torch.arange(1, len(index) + 1, dtype=torch.float64, device=weight.device)
            scores[index[order]] = rank / max(1, len(index))
        return scores

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform random numbers."""
        return torch.rand(mask.shape, generator=generator, dtype=torch.float64).to(mask.device)


class SRigLRule(RigLRule, StructuredRule):
    """RigL under a constant fan-in, with neuron ablation (Lasby et al., 2024, section 3).

    A neuron's *salient* connections are those that RigL would leave it with: what survives the drop and
    what the largest gradients would grow. Neurons with fewer than ``gamma_sal`` · k of them (k: the fan-in
    that the layer's budget gives every neuron) lose all their connections to the others; later updates may
    bring them back. The fan-in of the others is equal, and rounded down, so that the layer never has more
    connections than it started with.

    Args:
        gamma_sal: Share of k below which a neuron is ablated, in [0, 1]; 0 ablates none.

    Raises:
        SettingError: If it is out of range.
    """

    def __init__(self, gamma_sal: float = 0.3) -> None:
        if not 0 <= gamma_sal <= 1:
            raise SettingError(f"gamma_sal {gamma_sal} is not in [0, 1]")
        self.gamma_sal = gamma_sal

    def check(self, layer: LayerState) -> None:
        """A constant fan-in needs a connection for every neuron."""
        if layer.n_initial < layer.n_out:
            raise SettingError(
                f"{layer.name}: SRigL gives every neuron the same fan-in, but {layer.n_initial} connections "
                f"are not one for each of {layer.n_out} neurons; lower the sparsity"
            )

    def fan_in(self, salient: Tensor, layer: LayerState) -> Tensor:
        """The same for all that stay, 0 for the ablated."""
        threshold = math.ceil(self.gamma_sal * (layer.n_initial // layer.n_out))  # the counts are whole numbers
        fewest = -(-layer.n_initial // layer.n_in)  # with fewer neurons the connections would not fit
        stays = salient >= threshold
        if int(stays.sum()) < fewest:
            stays[salient.argsort(descending=True, stable=True)[:fewest]] = True
        return stays * (layer.n_initial // int(stays.sum()))


class MagnitudePruningRule(Rule):
    """Gradual magnitude pruning: drop the smallest magnitudes, grow nothing (Zhu & Gupta, 2017).

    The schedule's fraction is the share of the way that is still to go, so that with the cubic one the
    sparsity is s_t = s_f + (s_i − s_f)(1 − (t − t_0) / (n Δt))³ in every layer.

    Args:
        final_sparsity: s_f, the same for each hidden layer, in [0, 1).

    Raises:
        SettingError: If it is out of range.
    """

    needs_gradient = False

    def __init__(self, final_sparsity: float = 0.9) -> None:
        check_sparsity(final_sparsity)
        self.final_sparsity = final_sparsity

    def _final(self, layer: LayerState) -> int:
        return round((1 - self.final_sparsity) * layer.n_out * layer.n_in)

    def check(self, layer: LayerState) -> None:
        """Pruning goes one way, and not to the end of it."""
        if self._final(layer) == 0:
            raise SettingError(
                f"{layer.name}: final_sparsity {self.final_sparsity} leaves none of {layer.n_out} × {layer.n_in} "
                f"possible connections; lower it, or widen the layer"
            )
        if layer.n_initial < self._final(layer):
            sparsity = 1 - layer.n_initial / (layer.n_out * layer.n_in)
            raise SettingError(
                f"{layer.name} starts at sparsity {sparsity:.4f}, above final_sparsity {self.final_sparsity}: "
                f"start at sparsity 0 (pruning starts dense), or give a higher final_sparsity"
            )

    def counts(self, fraction: float, layer: LayerState) -> tuple[int, int]:
        """As many as lead to the schedule's sparsity."""
        final = self._final(layer)
        target = round(final + (layer.n_initial - final) * fraction)
        return max(0, layer.n_active - target), 0

    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """|weight|."""
        return weight.abs()

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Nothing grows."""
        return torch.zeros(mask.shape, device=mask.device)
