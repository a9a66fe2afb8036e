"""Wirings: connections of a layer made directly, beside the families of fan-in."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.fan_in import FanIn, FloatArray, LayerBudget
from psn_lightning.topology.scaling import draw_exactly
from psn_lightning.topology.spreading import SpreadingName, spread

DEFAULT_SPREADING: SpreadingName = "random"


class Wired(NamedTuple):
    """Connections together with the initial weights that belong to them."""

    connectivity: Connectivity
    values: FloatArray | None
    """Initial weights in CSR order, shape ``(n_connections,)``; None leaves them to the initialisation."""


class Wiring(ABC):
    """Makes the connections of a layer, where a :class:`FanIn` says only how many inputs each neuron has."""

    @abstractmethod
    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity | Wired:
        """Connect a layer.

        Args:
            budget: Shape, sparsity and minimum fan-in of the layer.
            rng: Random generator; the only source of randomness.

        Returns:
            Connectivity of the layer, with initial weights where the wiring brings them.

        Raises:
            UnreachableError: If the wiring cannot connect this layer.
        """


@dataclass(frozen=True)
class Spread(Wiring):
    """Fan-in of a family, the inputs of each neuron chosen by a spreading: every family as a wiring.

    Args:
        family: Family of the fan-in.
        spreading: Inputs of a neuron: even, random or sequential.
        exact: Whether the number of connections is exact: where the family rounds or clamps, the difference is
            distributed over the neurons (:func:`~psn_lightning.topology.scaling.draw_exactly`).
    """

    family: FanIn
    spreading: SpreadingName = DEFAULT_SPREADING
    exact: bool = True

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer.

        Raises:
            SettingError: If the spreading is unknown.
            UnreachableError: If the family cannot give its fan-in in this layer.
        """
        fan_in = draw_exactly(self.family, budget, rng) if self.exact else self.family.fan_in(budget, rng)
        return spread(fan_in, budget.n_in, self.spreading, rng)


def as_wiring(topology: FanIn | Wiring, spreading: SpreadingName, exact: bool = True) -> Wiring:
    """Make a wiring of a family of fan-in; a wiring is returned as it is.

    Args:
        topology: Family or wiring.
        spreading: Inputs of a neuron, for a family.
        exact: Whether a family's number of connections is exact, see :class:`Spread`.
    """
    return topology if isinstance(topology, Wiring) else Spread(topology, spreading, exact)


def check_spreading(topologies: Iterable[FanIn | Wiring], spreading: SpreadingName) -> None:
    """Check that a spreading has an effect on one of the layers.

    Raises:
        SettingError: If the spreading is not the default, and all layers have wirings.
    """
    topologies = list(topologies)
    if spreading != DEFAULT_SPREADING and topologies and all(isinstance(t, Wiring) for t in topologies):
        raise SettingError(
            f"spreading {spreading} has no effect on {type(topologies[0]).__name__}, a wiring that chooses the inputs "
            f"itself: leave it at {DEFAULT_SPREADING}, or use a family of fan-in"
        )


def connect_layer(wiring: Wiring, budget: LayerBudget, rng: np.random.Generator) -> Wired:
    """Connect a layer and check what the wiring made.

    Args:
        wiring: Wiring, possibly of the user.
        budget: Budget of the layer.
        rng: Random generator of the layer.

    Raises:
        UnreachableError: If the wiring cannot connect this layer.
        SettingError: If the wiring returns something else than connections of the layer's shape, or values that do
            not fit them.
    """
    made, name = wiring.connect(budget, rng), type(wiring).__name__
    wired = Wired(made, None) if isinstance(made, Connectivity) else made
    if not isinstance(wired, Wired) or not isinstance(wired.connectivity, Connectivity):
        raise SettingError(f"{name}.connect returned {type(made).__name__}: return a Connectivity or a Wired")
    connectivity, values = wired
    if (connectivity.n_out, connectivity.n_in) != (budget.n_out, budget.n_in):
        raise SettingError(
            f"{name}.connect made {connectivity.n_out} neurons of {connectivity.n_in} inputs, but {budget.name} has "
            f"{budget.n_out} of {budget.n_in}: use n_out and n_in of the budget"
        )
    if values is not None and np.shape(values) != (connectivity.n_connections,):
        raise SettingError(
            f"{name}.connect returned values of shape {np.shape(values)} for {connectivity.n_connections} connections "
            f"of {budget.name}: return one value for each connection, in CSR order"
        )
    return wired


def connect_layout(
    layout: FanIn | Wiring, budget: LayerBudget, rng: np.random.Generator, owner: str, reason: str
) -> Connectivity:
    """Connect the groups or blocks of a wiring by its layout.

    Args:
        layout: Family of the fan-in, or wiring.
        budget: Budget of a layer whose neurons are the groups, or whose connections are the blocks.
        rng: Random generator of the layer.
        owner: Name of the wiring that has the layout.
        reason: Reason that there cannot be weights, such as ``groups cannot share``.

    Raises:
        UnreachableError: If the layout cannot be had for this budget.
        SettingError: If the layout brings weights.
    """
    connectivity, values = connect_layer(as_wiring(layout, DEFAULT_SPREADING), budget, rng)
    if values is not None:
        raise SettingError(
            f"layout {type(layout).__name__} of {owner} brings weights, which {reason}: use a family of fan-in, or a "
            "wiring without weights"
        )
    return connectivity


def warn_of_missed(budget: LayerBudget, n_connections: int, what: str) -> None:
    """Warn that a layer has more or fewer connections than its budget, because they come in units.

    Args:
        budget: Budget of the layer.
        n_connections: Number of connections that it has.
        what: What they are in, such as ``in whole blocks of 16 × 16``.
    """
    missed = n_connections - budget.n_connections
    warnings.warn(
        f"{budget.name}: {n_connections:,} connections {what}, {abs(missed):,} {'more' if missed > 0 else 'fewer'} "
        "than the target",
        stacklevel=3,
    )
