"""Base of the rules: how many connections a rule drops and grows, and the scores by which it chooses them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


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
    keeps_count: bool = True
    """Whether an update grows as many connections of a layer as it drops."""

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
