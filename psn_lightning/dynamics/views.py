"""Views of a network during an update of its topology: everything that a rule sees, and the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from psn_lightning.nn.activity import Activity


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
    """Number of connections before the update."""
    n_initial: int
    """Number of connections at the start of the run."""

    @property
    def n_positions(self) -> int:
        """Number of positions, active or absent."""
        return self.n_out * self.n_in


@dataclass(frozen=True)
class Update:
    """Size and time of an update."""

    fraction: float
    """Fraction from the schedule, in [0, 1]; most rules drop this share of the connections."""
    progress: float = 1.0
    """Place of the update among all: 0 for the first, 1 for the last."""
    step: int = 0
    """Optimizer step, from 0."""
    n_left: int = 0
    """Number of updates after this one."""


@dataclass(frozen=True)
class Connections:
    """Active connections of a layer before an update."""

    layer: LayerState
    """Sizes of the layer."""
    positions: Tensor
    """Flat positions ``neuron * n_in + input``, ascending, int64, shape ``(n_connections,)``."""
    weight: Tensor
    """Weights, shape ``(n_connections,)``."""
    gradient: Callable[[], Tensor]
    """Function that returns the gradient of the loss to these weights, shape ``(n_connections,)``."""

    @property
    def neuron(self) -> Tensor:
        """Neuron of each connection, int64, shape ``(n_connections,)``."""
        return self.positions // self.layer.n_in

    @property
    def input(self) -> Tensor:
        """Input of each connection, int64, shape ``(n_connections,)``."""
        return self.positions % self.layer.n_in


@dataclass(frozen=True)
class Block:
    """Candidates for growth in a block of consecutive neurons of a layer."""

    layer: LayerState
    """Sizes of the layer."""
    first: int
    """Number of the block's first neuron."""
    mask: Tensor
    """Connections that are no candidates, boolean, shape ``(neurons, n_in)``; their scores are ignored."""
    dense_gradient: Tensor | None = None
    """Gradient of the loss to all positions, shape ``(neurons, n_in)``; None if the rule does not need it."""

    @property
    def gradient(self) -> Tensor:
        """Gradient of the loss to all positions, shape ``(neurons, n_in)``.

        Raises:
            RuntimeError: If the rule does not state that it needs the gradient.
        """
        return _require(self.dense_gradient)

    @property
    def neurons(self) -> slice:
        """Neurons of the block."""
        return slice(self.first, self.first + len(self.mask))


@dataclass(frozen=True)
class Pool:
    """Absent positions of a layer, from which a rule draws its candidates instead of scoring all of them."""

    layer: LayerState
    """Sizes of the layer."""
    taken: Tensor
    """Flat positions that are no candidates, ascending, int64."""
    activity: Callable[[torch.Generator | None], Activity]
    """Function that sums the layer's inputs and gradients over the batch, see :meth:`SparseLayer.activity`; for rules
    that state ``needs_activity``."""

    @property
    def n_absent(self) -> int:
        """Number of positions in the pool."""
        return self.layer.n_positions - len(self.taken)


@dataclass(frozen=True)
class Sample:
    """Candidates for growth that a rule has drawn."""

    layer: LayerState
    """Sizes of the layer."""
    positions: Tensor
    """Flat positions, distinct, absent, ascending, int64, shape ``(n,)``."""
    recorded: Tensor | None = None
    """Gradient of the loss to these positions, shape ``(n,)``; None if the rule does not need it."""

    @property
    def gradient(self) -> Tensor:
        """Gradient of the loss to these positions, shape ``(n,)``.

        Raises:
            RuntimeError: If the rule does not state that it needs the gradient.
        """
        return _require(self.recorded)


@dataclass(frozen=True)
class Change:
    """Result of an update of one layer."""

    dropped: int
    """Number of connections that were active before the update and are absent now."""
    grown: int
    """Number of connections that were absent before the update and are active now."""
    contested: float
    """Connections chosen by growth over connections before; includes those that grew back in the same update."""


def _require(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise RuntimeError("no dense gradient is recorded for this rule: set needs_gradient = True in its class")
    return gradient
