"""Topology of a network: family of the fan-in or wiring, sparsity and allocation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.allocation import AllocationName, allocate
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.distributions import Uniform
from psn_lightning.topology.fan_in import FanIn, LayerBudget, check_sparsity
from psn_lightning.topology.spreading import SpreadingName
from psn_lightning.topology.statistics import realised_sparsity
from psn_lightning.topology.wiring import Spread, Wired, Wiring, as_wiring, check_spreading, connect_layer

BudgetName = Literal["hidden", "network"]
"""Layers that the sparsity counts."""
AboveCeiling = Literal["refuse", "clamp"]
"""Treatment of a sparsity above the ceiling of Eq. 7."""


@dataclass(frozen=True)
class Topology:
    """Topology of the hidden layers of a network.

    Args:
        fan_in: Family of the fan-in within each layer, or wiring of each layer.
        sparsity: Target fraction of absent connections, in [0, 1).
        allocation: Density per layer: ``uniform``, ``er`` or ``erk``, see :func:`allocate`.
        min_fan_in: Smallest fan-in of a neuron.
        budget: Layers that ``sparsity`` counts: ``hidden`` ones only, or the ``network`` with its dense output layer,
            as in RigL's original code.
        above_ceiling: Treatment of a sparsity above the ceiling of Eq. 7: ``refuse`` it, or ``clamp`` the fan-in, which
            leaves more connections than the target (the paper's 99.9% on 784 inputs).

    Raises:
        SettingError: If an argument is out of range.
    """

    fan_in: FanIn | Wiring = field(default_factory=Uniform)
    sparsity: float = 0.9
    allocation: AllocationName = "uniform"
    min_fan_in: int = 1
    budget: BudgetName = "hidden"
    above_ceiling: AboveCeiling = "refuse"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if self.above_ceiling not in get_args(AboveCeiling):
            raise SettingError(
                f"above_ceiling {self.above_ceiling!r} is not one of {', '.join(get_args(AboveCeiling))}"
            )
        if self.budget not in get_args(BudgetName):
            raise SettingError(f"budget {self.budget!r} is not one of {', '.join(get_args(BudgetName))}")

    def budgets(self, layer_sizes: Sequence[int]) -> list[LayerBudget]:
        """Budget of each hidden layer.

        Args:
            layer_sizes: Number of inputs, hidden widths and number of classes: ``[784, 1024, 1024, 10]``.

        Raises:
            SettingError: If the network has no hidden layer or a size is below 1.
            UnreachableError: If a layer cannot have its sparsity with this minimum fan-in.
        """
        if len(layer_sizes) < 3 or min(layer_sizes) < 1:
            raise SettingError(
                f"layer sizes {list(layer_sizes)} must be inputs, one or more hidden widths, and classes"
            )
        shapes = [(n_out, n_in) for n_in, n_out in pairwise(layer_sizes)]
        densities = allocate(
            shapes[:-1], self.sparsity, self.allocation, dense=shapes[-1:] if self.budget == "network" else ()
        )
        clamp = self.above_ceiling == "clamp"
        return [
            LayerBudget(n_in, n_out, max(0.0, 1 - density), self.min_fan_in, f"fc{i}", clamp)
            for i, ((n_out, n_in), density) in enumerate(zip(shapes[:-1], densities, strict=True), start=1)
        ]

    def wire(self, layer_sizes: Sequence[int], spreading: SpreadingName, seed: int) -> list[Wired]:
        """Build the connections of each hidden layer, with the initial weights where a wiring brings them.

        Args:
            layer_sizes: Number of inputs, hidden widths and number of classes.
            spreading: ``even``, ``random`` or ``sequential``, see :func:`spread`; for families of fan-in only.
            seed: Seed of the connections; each layer has a random stream of its own.

        Raises:
            SettingError: If the network has no hidden layer, or the spreading is unknown or has no effect.
            UnreachableError: If the family or the wiring cannot connect a layer.
        """
        check_spreading([self.fan_in], spreading)
        wiring = as_wiring(self.fan_in, spreading, exact=False)
        layers = []
        for i, budget in enumerate(self.budgets(layer_sizes)):
            layers.append(connect_layer(wiring, budget, np.random.default_rng([seed, i])))
            _warn_about_sparsity(wiring, budget, layers[-1].connectivity)
        return layers

    def connect(self, layer_sizes: Sequence[int], spreading: SpreadingName, seed: int) -> list[Connectivity]:
        """Build the connectivity of each hidden layer: :meth:`wire` without weights."""
        return [layer.connectivity for layer in self.wire(layer_sizes, spreading, seed)]


def _warn_about_sparsity(wiring: Wiring, budget: LayerBudget, connectivity: Connectivity) -> None:
    """Warn if the sparsity misses its target by more than 0.01: the clamp of Eq. 6 follows the scaling."""
    realised = realised_sparsity([connectivity])
    if abs(realised - budget.sparsity) > 0.01:
        reason = (
            f"the fan-in is rounded and clamped to {budget.min_fan_in} … {budget.n_in}"
            if isinstance(wiring, Spread)
            else f"{type(wiring).__name__} makes another number of connections"
        )
        warnings.warn(
            f"{budget.name}: target sparsity {budget.sparsity:.4f}, realised sparsity {realised:.4f}: {reason}",
            stacklevel=3,
        )
