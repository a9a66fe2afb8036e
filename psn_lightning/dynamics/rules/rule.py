"""Base of the rules: how many connections a rule drops and grows, and the scores by which it chooses them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from psn_lightning.dynamics.sampling import draw_absent
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Pool, Sample, Update


class Rule(ABC):
    """Base class of rules: a method of dynamic sparse training is a subclass that scores connections.

    An update calls :meth:`prepare`, then :meth:`counts` and :meth:`drop_scores` for each layer, :meth:`after_drop` for
    all layers, :meth:`grow_scores` for each block of neurons, and :meth:`after_update`. Scores are compared within one
    layer. Ties go to the lower flat position, so that equal inputs give equal masks.

    Scoring blocks takes time in proportion to ``n_out * n_in``. A rule that answers :meth:`count_candidates` draws
    candidates instead, and scores these alone: :meth:`draw_candidates` and :meth:`sample_scores` then stand in for
    :meth:`grow_scores`, unless there are as many candidates as absent positions, or a structure needs them all.
    """

    needs_gradient: bool = True
    """Whether :meth:`grow_scores` or :meth:`sample_scores` reads the gradient."""
    needs_activity: bool = False
    """Whether :meth:`draw_candidates` reads the inputs and gradients of the layer."""
    may_return: bool = True
    """Whether a connection that has just been dropped is a candidate for growth."""
    keeps_count: bool = True
    """Whether an update leaves every layer the number of connections that it has."""
    ends_at_target: bool = False
    """Whether the network has the density of the method after the last update only, and another one before."""

    def check(self, layers: Mapping[str, LayerState]) -> None:  # noqa: B027  # most rules work on any layer
        """Check that the rule can update the layers; called before training.

        Args:
            layers: Sizes of the layers by name.

        Raises:
            SettingError: If the rule cannot update a layer.
        """

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:  # noqa: B027  # most see one layer
        """Prepare an update; called once with all layers before the first connection is dropped.

        Args:
            layers: Active connections by layer name.
            update: Size and time of the update.
        """

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to drop and to grow; by default the update's fraction of them for both.

        Args:
            layer: Sizes of the layer.
            update: Size and time of the update.

        Returns:
            Numbers of connections to drop and to grow.
        """
        n = int(update.fraction * layer.n_active)
        return n, n

    @abstractmethod
    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Score the active connections of a layer; those with the lowest scores are dropped.

        Args:
            connections: Active connections of the layer.
            generator: Random generator on the CPU, in the same state on every process.

        Returns:
            Scores, shape ``(n_connections,)``.
        """

    def after_drop(self, kept: Mapping[str, Tensor], layers: Mapping[str, LayerState]) -> Mapping[str, Tensor]:
        """See the connections that all layers keep, before any is grown; may remove more of them.

        Every connection that is removed here is made up for by growth in the same layer.

        Args:
            kept: Flat positions that are kept, ascending, int64, by layer name.
            layers: Sizes of the layers by name.

        Returns:
            Flat positions to keep, ascending, by layer name.
        """
        return kept

    @abstractmethod
    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Score the candidates for growth in a block of neurons; those with the highest scores are grown.

        Args:
            block: Candidates, with the gradient of the loss if :attr:`needs_gradient` is True.
            generator: Random generator on the CPU, in the same state on every process.

        Returns:
            Scores, shape ``(neurons, n_in)``; scores where the block's mask is True are ignored.
        """

    def count_candidates(self, layer: LayerState) -> int | None:
        """Count the candidates to draw for growth; by default None: all absent positions are candidates.

        Args:
            layer: Sizes of the layer.
        """
        return None

    def draw_candidates(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        """Draw candidates for growth; by default distinct ones, uniformly at random.

        Args:
            pool: Absent positions of the layer.
            count: Number of candidates to draw, below the number of absent positions: that of
                :meth:`count_candidates`, or the number to grow if that is higher.
            generator: Random generator on the CPU, in the same state on every process.

        Returns:
            Flat positions, distinct, absent, ascending, int64. There may be fewer than the number to grow only if
            :attr:`may_return` is False; fewer connections are then exchanged.
        """
        return draw_absent(pool.taken, pool.layer.n_positions, count, generator)

    def sample_scores(self, sample: Sample, generator: torch.Generator) -> Tensor:
        """Score drawn candidates; those with the highest scores are grown. By default the magnitude of the gradient.

        Args:
            sample: Drawn candidates, more than are to be grown.
            generator: Random generator on the CPU, in the same state on every process.

        Returns:
            Scores, shape ``(n,)``.
        """
        return sample.gradient.abs()

    def grown_values(self, positions: Tensor, layer: LayerState, generator: torch.Generator) -> Tensor | None:
        """Draw the first weights of new connections; by default they are 0.

        Args:
            positions: Flat positions of the connections that were absent before the update, ascending, int64.
            layer: Sizes of the layer.
            generator: Random generator on the CPU, in the same state on every process.

        Returns:
            Weights, shape ``(n,)``; None for zeros.
        """
        return None

    def after_update(self, changes: Mapping[str, Change]) -> None:  # noqa: B027  # most rules remember nothing
        """See the result of an update.

        Args:
            changes: Changes by layer name.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what the rule remembers between updates, of types that ``torch.load(weights_only=True)`` accepts."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # noqa: B027  # most rules remember nothing
        """Restore what the rule remembers.

        Args:
            state_dict: State from :meth:`state_dict`.
        """


class StructuredRule(Rule):
    """Base class of rules that prescribe the fan-in of every neuron after an update, or of groups of its inputs."""

    def group_size(self, layer: LayerState) -> int:
        """Return the number of consecutive inputs of a group, a divisor of ``n_in``; by default all inputs.

        Args:
            layer: Sizes of the layer.
        """
        return layer.n_in

    @abstractmethod
    def fan_in(self, count_salient: Callable[[], Tensor], layer: LayerState) -> Tensor:
        """Compute the fan-in of every neuron, or group of inputs, after the update.

        Args:
            count_salient: Function that returns the fan-in which an unstructured update would give each group, int64,
                shape ``(n_groups,)``.
            layer: Sizes of the layer.

        Returns:
            Fan-in of each group, int64, shape ``(n_groups,)``, at most its size; 0 ablates it.
        """
