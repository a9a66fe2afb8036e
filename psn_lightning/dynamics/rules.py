"""Rules of dynamic sparse training: scores by which connections are dropped and grown."""

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
    """Sizes of a layer, from which a rule computes the counts of an update."""

    name: str
    """Name of the layer."""
    n_out: int
    """Number of neurons."""
    n_in: int
    """Number of inputs of a neuron."""
    n_active: int
    """Present number of connections."""
    n_initial: int
    """Number of connections at the start of the run."""


class Rule(ABC):
    """Base class of rules: a method of dynamic sparse training is a subclass that scores connections.

    Scores are compared within one layer. Ties go to the lower flat position, so that equal inputs give equal masks.
    """

    needs_gradient: bool = True
    """Whether :meth:`grow_scores` reads the dense gradient."""
    may_return: bool = True
    """Whether a connection that has just been dropped is a candidate for growth."""

    def check(self, layer: LayerState) -> None:  # noqa: B027  # most rules work on any layer
        """Check that the rule can update a layer; called before training.

        Args:
            layer: Sizes of the layer.

        Raises:
            SettingError: If the rule cannot update the layer.
        """

    def prepare(self, weights: Mapping[str, Tensor], fraction: float) -> None:  # noqa: B027  # most look at one layer
        """Prepare an update; called once with all layers before the first of them is updated.

        Args:
            weights: Weights of the active connections, shape ``(n_connections,)``, by layer name.
            fraction: Fraction from the schedule, in [0, 1].
        """

    def counts(self, fraction: float, layer: LayerState) -> tuple[int, int]:
        """Compute how many connections to drop and to grow; by default ``fraction`` of the connections for both.

        Args:
            fraction: Fraction from the schedule, in [0, 1].
            layer: Sizes of the layer.

        Returns:
            Numbers of connections to drop and to grow.
        """
        n = int(fraction * layer.n_active)
        return n, n

    @abstractmethod
    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """Score the active connections of a layer; those with the lowest scores are dropped.

        Args:
            weight: Weights of the active connections, shape ``(n_connections,)``.
            neuron: Neuron of each connection, int64, shape ``(n_connections,)``.

        Returns:
            Scores, shape ``(n_connections,)``.
        """

    @abstractmethod
    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Score the candidates for growth in a block of neurons; those with the highest scores are grown.

        Args:
            gradient: Dense gradient of the loss, shape ``(neurons, n_in)``; undefined if :attr:`needs_gradient` is
                False.
            mask: Connections that survived the drop, boolean, shape ``(neurons, n_in)``.
            generator: Random generator on the CPU, in the same state on every process.

        Returns:
            Scores, shape ``(neurons, n_in)``; scores where ``mask`` is True are ignored.
        """


class StructuredRule(Rule):
    """Base class of rules that prescribe the fan-in of every neuron after an update."""

    @abstractmethod
    def fan_in(self, salient: Tensor, layer: LayerState) -> Tensor:
        """Compute the fan-in of every neuron after the update.

        Args:
            salient: Fan-in that an unstructured update would give each neuron, int64, shape ``(n_out,)``.
            layer: Sizes of the layer.

        Returns:
            Fan-in of each neuron, int64, shape ``(n_out,)``, at most ``n_in``; 0 ablates the neuron.
        """


class RigLRule(Rule):
    """RigL: drop the smallest |weight|, grow the largest |gradient| (Evci et al., 2020, arXiv 1911.11134, section 3).

    As in the authors' code, a connection that has just been dropped is a candidate for growth; if it grows back, it
    keeps weight and moments.
    """

    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return weight.abs()

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Magnitude of the gradient, shape ``(neurons, n_in)``."""
        return gradient.abs()


class SETRule(Rule):
    """SET: drop the positive and the negative weights nearest zero, grow at random (Mocanu et al., 2018, Algorithm 1).

    The same share of the positive and of the negative weights is dropped. Unlike in the paper, grown connections start
    with weight 0, not with a random weight; all rules of this package have that in common.
    """

    needs_gradient = False

    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """Rank of |weight| among the weights of the same sign, divided by their number; NaN gets the lowest score."""
        scores = torch.zeros_like(weight, dtype=torch.float64)
        for sign in (weight >= 0, weight < 0):
            index = sign.nonzero().squeeze(1)
            order = weight[index].abs().argsort(stable=True)
            rank = torch.arange(1, len(index) + 1, dtype=torch.float64, device=weight.device)
            scores[index[order]] = rank / max(1, len(index))
        return scores

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform random numbers, shape ``(neurons, n_in)``."""
        return torch.rand(mask.shape, generator=generator, dtype=torch.float64).to(mask.device)


class SRigLRule(RigLRule, StructuredRule):
    """SRigL: RigL with constant fan-in and neuron ablation (Lasby et al., 2024, arXiv 2305.02299, section 3).

    The *salient* connections of a neuron are those that RigL would give it: the survivors of the drop and those with
    the largest gradients. A neuron with fewer than ``gamma_sal * k`` salient connections, where k is the fan-in that
    the layer's budget gives every neuron, is ablated: its connections go to the other neurons. A later update may
    revive it. The fan-in of the remaining neurons is equal and rounded down, so that the layer never has more
    connections than at the start of the run.

    Args:
        gamma_sal: Share of k below which a neuron is ablated (γ_sal), in [0, 1]; 0 ablates no neuron.

    Raises:
        SettingError: If ``gamma_sal`` is not in [0, 1].
    """

    def __init__(self, gamma_sal: float = 0.3) -> None:
        if not 0 <= gamma_sal <= 1:
            raise SettingError(f"gamma_sal {gamma_sal} is not in [0, 1]: 0 ablates no neuron")
        self.gamma_sal = gamma_sal

    def check(self, layer: LayerState) -> None:
        """Check that the layer has at least one connection per neuron, which a constant fan-in needs."""
        if layer.n_initial < layer.n_out:
            raise SettingError(
                f"{layer.name}: SRigL needs a fan-in of at least 1, but {layer.n_initial} connections are fewer than "
                f"{layer.n_out} neurons: lower the sparsity"
            )

    def fan_in(self, salient: Tensor, layer: LayerState) -> Tensor:
        """Equal fan-in for the neurons that stay, 0 for ablated neurons."""
        threshold = math.ceil(self.gamma_sal * (layer.n_initial // layer.n_out))  # exact comparison of integers
        fewest = -(-layer.n_initial // layer.n_in)  # fewer neurons have no room for all connections
        stays = salient >= threshold
        if int(stays.sum()) < fewest:
            stays[salient.argsort(descending=True, stable=True)[:fewest]] = True
        return stays * (layer.n_initial // int(stays.sum()))


class MagnitudePruningRule(Rule):
    """Gradual magnitude pruning (GMP): drop the smallest |weight|, grow none (Zhu & Gupta, 2018, arXiv 1710.01878).

    The schedule's fraction is the remaining share of the connections to prune. With :class:`CubicSchedule` the
    sparsity of every layer is s_t = s_f + (s_i − s_f)(1 − (t − t_0) / (n Δt))³ (Eq. 1).

    Args:
        final_sparsity: Sparsity of each layer after the last update (s_f), in [0, 1).

    Raises:
        SettingError: If ``final_sparsity`` is not in [0, 1).
    """

    needs_gradient = False

    def __init__(self, final_sparsity: float = 0.9) -> None:
        check_sparsity(final_sparsity)
        self.final_sparsity = final_sparsity

    def _count_final(self, layer: LayerState) -> int:
        return round((1 - self.final_sparsity) * layer.n_out * layer.n_in)

    def check(self, layer: LayerState) -> None:
        """Check that at least one connection remains, and that the layer starts denser than it ends."""
        if self._count_final(layer) == 0:
            raise SettingError(
                f"{layer.name}: final_sparsity {self.final_sparsity} leaves no connection of this {layer.n_out} × "
                f"{layer.n_in} layer: lower final_sparsity or widen the layer"
            )
        if layer.n_initial < self._count_final(layer):
            sparsity = 1 - layer.n_initial / (layer.n_out * layer.n_in)
            raise SettingError(
                f"{layer.name}: initial sparsity {sparsity:.4f} is above final_sparsity {self.final_sparsity}: start "
                "with a dense model (sparsity 0) or raise final_sparsity"
            )

    def counts(self, fraction: float, layer: LayerState) -> tuple[int, int]:
        """Compute how many connections to drop to reach the sparsity of the schedule; none are grown."""
        final = self._count_final(layer)
        target = round(final + (layer.n_initial - final) * fraction)
        return max(0, layer.n_active - target), 0

    def drop_scores(self, weight: Tensor, neuron: Tensor) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return weight.abs()

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Zeros, shape ``(neurons, n_in)``: no connection is grown."""
        return torch.zeros(mask.shape, device=mask.device)
