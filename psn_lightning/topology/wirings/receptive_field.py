"""Bipartite receptive fields: near inputs are likelier (Zhang et al., 2026, arXiv 2501.19107)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.distributions import Uniform
from psn_lightning.topology.fan_in import FanIn, FloatArray, LayerBudget
from psn_lightning.topology.scaling import draw_exactly
from psn_lightning.topology.wiring import Wiring
from psn_lightning.topology.wirings.drawing import draw_by_weight, nearest_inputs, ring_distance


@dataclass(frozen=True)
class ReceptiveField(Wiring):
    """Bipartite receptive field (BRF): inputs drawn in proportion to (1 + d)^(−(1 − r) / r), section 3 of the paper.

    d is the distance of an input to the neuron's place on the diagonal, on the ring of inputs. Unlike the authors'
    code, degrees are those of the neurons whichever side is the smaller, and the diagonal runs through the
    whole matrix.

    Args:
        randomness: Randomness r, in [0, 1]: 0 takes the nearest inputs, 1 any.
        degree: Family of the fan-in. The paper's BRFf is :class:`Uniform`; its BRFu is near :class:`Bernoulli`.

    Raises:
        SettingError: If the randomness is outside [0, 1].
    """

    randomness: float = 0.25
    degree: FanIn = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        if not 0 <= self.randomness <= 1:
            raise SettingError(f"randomness {self.randomness} of ReceptiveField is not in [0, 1]")

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer; the number of connections is exact.

        Raises:
            UnreachableError: If the degrees cannot be had in this layer.
        """
        fan_in = draw_exactly(self.degree, budget, rng)
        if self.randomness == 0:
            return nearest_inputs(budget.n_in, fan_in)
        exponent = (1 - self.randomness) / self.randomness

        def log_weight(neurons: IntArray) -> FloatArray:
            return -exponent * np.log1p(ring_distance(neurons, budget.n_in, budget.n_out))

        return draw_by_weight(budget.n_in, fan_in, log_weight, rng)
