"""Groups of neurons that share their inputs, so that dense products of matrix units compute them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.distributions import Uniform
from psn_lightning.topology.fan_in import FanIn, LayerBudget
from psn_lightning.topology.scaling import draw_exactly
from psn_lightning.topology.wiring import Wiring, connect_layout, warn_of_missed

InputsName = Literal["even", "random"]
NeuronsName = Literal["contiguous", "interleaved"]

_NOTICED = 0.01  # share of the connections from which a miss is worth a warning


@dataclass(frozen=True)
class Grouped(Wiring):
    """Groups of ``size`` neurons that read the same inputs; a layout says which, as for a layer of groups.

    The number of connections is the multiple of ``size`` nearest to the budget, with a layout that is exact itself.
    Groups of one neuron are the layout itself.

    Args:
        size: Number of neurons of a group; divides the number of neurons. Matrix units want a multiple of 16.
        layout: Family of the groups' fan-in, or wiring of the groups.
        inputs: Choice of the inputs for a family: ``even``, dealt like cards, so that no two inputs differ by more than
            one in the number of groups that read them; or ``random``, drawn for each group.
        neurons: Neurons of a group: ``contiguous``, or ``interleaved``, one of every n_out / size.

    Raises:
        SettingError: If the size is below 1, a name is unknown, or ``inputs`` is set for a wiring.
    """

    size: int = 16
    layout: FanIn | Wiring = field(default_factory=Uniform)
    inputs: InputsName = "even"
    neurons: NeuronsName = "contiguous"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SettingError(f"size {self.size} of Grouped must be at least 1")
        for name, names in (("inputs", InputsName), ("neurons", NeuronsName)):
            if getattr(self, name) not in get_args(names):
                raise SettingError(
                    f"{name} {getattr(self, name)!r} of Grouped is not one of {', '.join(get_args(names))}"
                )
        if self.inputs != "even" and isinstance(self.layout, Wiring):
            raise SettingError(
                f"inputs {self.inputs} of Grouped has no effect on {type(self.layout).__name__}, a wiring that chooses "
                "the inputs itself: leave it at even, or use a family of fan-in"
            )

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer.

        Raises:
            UnreachableError: If the size does not divide the layer, or the layout cannot be had for its groups.
            SettingError: If the layout brings weights.
        """
        if budget.n_out % self.size:
            divisors = ", ".join(str(d) for d in range(1, budget.n_out + 1) if budget.n_out % d == 0)
            raise UnreachableError(
                f"groups of {self.size} do not divide the {budget.n_out} neurons of {budget.name}: use a size of "
                f"{divisors}"
            )
        of_groups = self._make_budget(budget)
        if isinstance(self.layout, FanIn) and self.inputs == "even":
            fan_in = draw_exactly(self.layout, of_groups, rng)
            grid = Connectivity.from_fan_in(budget.n_in, fan_in, deal_inputs(fan_in, budget.n_in, rng))
        else:
            grid = connect_layout(self.layout, of_groups, rng, "Grouped", "groups cannot share")
        connectivity = Connectivity.from_grid(grid, self._assign_neurons(budget.n_out))
        if abs(connectivity.n_connections - budget.n_connections) > _NOTICED * budget.n_connections:
            warn_of_missed(budget, connectivity.n_connections, f"of groups of {self.size}")
        return connectivity

    def _make_budget(self, budget: LayerBudget) -> LayerBudget:
        """Budget of a layer whose neurons are the groups."""
        n_groups = budget.n_out // self.size
        n_pairs = max(round(budget.n_connections / self.size), budget.min_fan_in * n_groups)
        absent = max(0.0, 1 - n_pairs / (budget.n_in * n_groups))
        return LayerBudget(
            budget.n_in, n_groups, absent, budget.min_fan_in, f"the groups of {budget.name}", budget.may_exceed_ceiling
        )

    def _assign_neurons(self, n_out: int) -> IntArray:
        """Group of each neuron, shape ``(n_out,)``."""
        neurons = np.arange(n_out, dtype=np.int64)
        return neurons // self.size if self.neurons == "contiguous" else neurons % (n_out // self.size)


def deal_inputs(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Deal inputs to neurons or groups from shuffled decks, one deck after the other.

    Every deck holds each input once. Where a hand goes over the end of a deck, the inputs that it already has are left
    to those that follow. So the fan-outs differ by at most one, and as soon as there are as many connections as inputs,
    every input is read.

    Args:
        fan_in: Number of inputs of each neuron or group, in [0, n_in], shape ``(n,)``.
        n_in: Number of inputs.
        rng: Random generator.

    Returns:
        Inputs of all, concatenated, ascending within each, shape ``(fan_in.sum(),)``.
    """
    deck, hands = np.empty(0, dtype=np.int64), []
    for k in fan_in.tolist():
        hand, deck = deck[:k], deck[k:]
        if len(hand) < k:
            fresh = rng.permutation(n_in).astype(np.int64)
            taken = fresh[~np.isin(fresh, hand)][: k - len(hand)]
            hand, deck = np.concatenate([hand, taken]), fresh[~np.isin(fresh, taken)]
        hands.append(np.sort(hand))
    return np.concatenate(hands)
