"""Bipartite small worlds (Watts & Strogatz, 1998; Zhang et al., 2026, arXiv 2501.19107)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.distributions import Uniform
from psn_lightning.topology.fan_in import FanIn, LayerBudget
from psn_lightning.topology.scaling import draw_exactly
from psn_lightning.topology.wiring import Wiring
from psn_lightning.topology.wirings.drawing import nearest_inputs


@dataclass(frozen=True)
class SmallWorld(Wiring):
    """Bipartite small world (BSW): each neuron reads the inputs nearest to it on the ring; some links are rewired.

    A rewired link keeps its neuron, as in Watts & Strogatz, so the fan-in is that of ``degree``; its new input is any
    one that the neuron does not read.

    Args:
        rewiring: Probability β that a link is rewired, in [0, 1]: 0 is regular, 1 random.
        degree: Family of the fan-in.

    Raises:
        SettingError: If the probability is outside [0, 1].
    """

    rewiring: float = 0.1
    degree: FanIn = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        if not 0 <= self.rewiring <= 1:
            raise SettingError(f"rewiring {self.rewiring} of SmallWorld is not a probability in [0, 1]")

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer; the number of connections is exact.

        Raises:
            UnreachableError: If the degrees cannot be had in this layer.
        """
        regular = nearest_inputs(budget.n_in, draw_exactly(self.degree, budget, rng))
        stays = rng.random(regular.n_connections) >= self.rewiring
        parts = []
        for first, last in zip(regular.indptr[:-1].tolist(), regular.indptr[1:].tolist(), strict=True):
            kept = regular.indices[first:last][stays[first:last]]
            free = np.setdiff1d(np.arange(budget.n_in), kept, assume_unique=True)
            new = rng.choice(free, size=last - first - kept.size, replace=False, shuffle=False)
            parts.append(np.sort(np.concatenate([kept, new])))
        return Connectivity.from_fan_in(budget.n_in, regular.fan_in, np.concatenate(parts))
