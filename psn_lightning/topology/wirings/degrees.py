"""Degree kinds of the Dendritic Network Model (Cerretti et al., 2025) as families of fan-in.

They follow the authors' demonstration program; its kind "fixed" is :class:`~psn_lightning.topology.Uniform`. The number
of connections is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import IntArray
from psn_lightning.topology.fan_in import FanIn, LayerBudget
from psn_lightning.topology.scaling import settle


@dataclass(frozen=True)
class GaussianDegree(FanIn):
    """Normal fan-in around the mean, the program's "gaussian".

    Args:
        std: Standard deviation, in inputs.

    Raises:
        SettingError: If the standard deviation is negative or not finite.
    """

    std: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.std < np.inf:
            raise SettingError(f"std {self.std} of GaussianDegree must be a finite number ≥ 0")

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``."""
        return _restore(budget.clamp(rng.normal(budget.mean_fan_in, self.std, budget.n_out)), budget, rng)


@dataclass(frozen=True)
class UniformDegree(FanIn):
    """Fan-in uniform within mean · (1 ± spread), the program's "uniform"; beyond a spread of 1 many are clamped to 1.

    Args:
        spread: Half the width of the distribution, in mean fan-ins.

    Raises:
        SettingError: If the spread is negative or not finite.
    """

    spread: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.spread < np.inf:
            raise SettingError(f"spread {self.spread} of UniformDegree must be a finite number ≥ 0")

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``."""
        mean, reach = budget.mean_fan_in, self.spread * budget.mean_fan_in
        return _restore(budget.clamp(rng.uniform(mean - reach, mean + reach, budget.n_out)), budget, rng)


@dataclass(frozen=True)
class SpatialDegree(FanIn):
    """Gaussian bump of the fan-in over the layer, the program's "spatial_gaussian"; its width grows with the density.

    :class:`~psn_lightning.topology.Bell` is the bump of a constant width. Deterministic.

    Args:
        inverse: Whether to use 1 − the bump, the program's "spatial_inversegaussian".
        std: Standard deviation of the bump in neurons, per input of the mean fan-in.

    Raises:
        SettingError: If the standard deviation is not a positive number.
    """

    inverse: bool = False
    std: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.std < np.inf:
            raise SettingError(f"std {self.std} of SpatialDegree must be a positive number")

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``; hubs in the middle, or at both ends."""
        place = (np.arange(budget.n_out) - (budget.n_out - 1) / 2) / (self.std * budget.mean_fan_in)
        bump = np.exp(-(place**2) / 2)
        relative = (1 - bump if self.inverse else bump) + np.finfo(np.float64).tiny
        return settle(budget.clamp(relative / relative.mean() * budget.mean_fan_in), budget)


def _restore(fan_in: IntArray, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
    """Restore the number of connections by single inputs of random neurons, as the program does."""
    while (missing := budget.n_reachable - int(fan_in.sum())) != 0:
        room = budget.n_in - fan_in if missing > 0 else fan_in - budget.min_fan_in
        able = np.flatnonzero(room > 0)
        fan_in[rng.choice(able, size=min(abs(missing), able.size), replace=False)] += np.sign(missing)
    return fan_in
