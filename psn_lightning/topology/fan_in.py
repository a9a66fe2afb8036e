"""Integer fan-in of each neuron: base of the families, and the budget of a layer.

The families are in :mod:`profiles` and :mod:`distributions`; the budget has Eq. 6, the clamp, and Eq. 7, the ceiling.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology.connectivity import IntArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LayerBudget:
    """Shape and number of connections of a layer.

    Args:
        n_in: Number of inputs.
        n_out: Number of neurons.
        sparsity: Target fraction of absent connections, in [0, 1).
        min_fan_in: Smallest fan-in of a neuron (``k_min`` of Eq. 6), in [1, n_in].
        name: Name of the layer in errors.
        may_exceed_ceiling: Whether the sparsity may be above the ceiling of Eq. 7; the clamp of Eq. 6 then leaves more
            connections than the target.

    Raises:
        SettingError: If the sparsity or the minimum fan-in is out of range.
        UnreachableError: If the sparsity is above the ceiling, and may not be.
    """

    n_in: int
    n_out: int
    sparsity: float
    min_fan_in: int = 1
    name: str = "layer"
    may_exceed_ceiling: bool = False

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if not 1 <= self.min_fan_in <= self.n_in:
            raise SettingError(
                f"min_fan_in {self.min_fan_in} is not in 1 … {self.n_in}, where {self.n_in} is the number of inputs of "
                f"{self.name}"
            )
        if self.mean_fan_in < self.min_fan_in * (1 - 1e-9) and not self.may_exceed_ceiling:
            raise UnreachableError(
                f"sparsity {self.sparsity:.6g} of {self.name} is above {self.ceiling:.6g}, the ceiling of "
                f"min_fan_in {self.min_fan_in} with {self.n_in} inputs: lower the sparsity or min_fan_in"
            )

    @property
    def mean_fan_in(self) -> float:
        """Target mean fan-in, ``n_in * (1 - sparsity)``."""
        return self.n_in * (1 - self.sparsity)

    @property
    def n_connections(self) -> int:
        """Target number of connections, rounded to the nearest integer."""
        return round(self.mean_fan_in * self.n_out)

    @property
    def n_reachable(self) -> int:
        """Number of connections with the minimum fan-in: the target, or more above the ceiling of Eq. 7."""
        return max(self.n_connections, self.min_fan_in * self.n_out)

    @property
    def ceiling(self) -> float:
        """Largest sparsity with the minimum fan-in (Eq. 7)."""
        return sparsity_ceiling(self.n_in, self.min_fan_in)

    def clamp(self, raw: FloatArray) -> IntArray:
        """Round to the nearest integer and clamp to [min_fan_in, n_in] (Eq. 6).

        Args:
            raw: Fan-in before rounding, shape ``(n_out,)``.
        """
        return np.clip(np.rint(raw), self.min_fan_in, self.n_in).astype(np.int64)


class FanIn(ABC):
    """Family of fan-in sequences: the number of inputs of each neuron of a layer."""

    @abstractmethod
    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron.

        Args:
            budget: Shape, sparsity and minimum fan-in of the layer.
            rng: Random generator; deterministic families do not use it.

        Returns:
            Fan-in, shape ``(n_out,)``, in [min_fan_in, n_in].

        Raises:
            UnreachableError: If the family cannot reach its target in this layer.
        """


def check_sparsity(sparsity: float) -> None:
    """Check that a sparsity is in [0, 1).

    Args:
        sparsity: Fraction of absent connections.

    Raises:
        SettingError: If the sparsity is outside [0, 1) or NaN.
    """
    if not 0 <= sparsity < 1:
        raise SettingError(f"sparsity {sparsity} is not in [0, 1): 0.9 keeps one connection in ten")


def sparsity_ceiling(n_in: int, min_fan_in: int = 1) -> float:
    """Largest sparsity at which every neuron has its minimum fan-in, 1 - min_fan_in / n_in (Eq. 7)."""
    return 1 - min_fan_in / n_in
