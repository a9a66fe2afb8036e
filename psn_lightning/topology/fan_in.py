"""From a wish (a profile, a distribution) to an integer fan-in per neuron.

The families themselves are in :mod:`profiles` and :mod:`distributions`; what they share is here: the
layer they are asked about, the clamp of Eq. 6, the ceiling of Eq. 7 and the bisections of section 2.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology.connectivity import IntArray

FloatArray = NDArray[np.float64]

_BISECTIONS = 60  # halves any bracket used here below float resolution of the result
_SMALLEST_SHAPE = 1e-6  # at 0 all neurons are alike, and gain a connection all at once: the mean would miss its target


@dataclass(frozen=True)
class LayerBudget:
    """What a layer may spend.

    Args:
        n_in: Number of inputs.
        n_out: Number of neurons.
        sparsity: Target share of absent connections, in [0, 1).
        min_fan_in: Smallest fan-in of a neuron (``k_min`` of Eq. 6).
        name: How errors name the layer.

    Raises:
        SettingError: If the sparsity is out of range or above the ceiling of Eq. 7.
    """

    n_in: int
    n_out: int
    sparsity: float
    min_fan_in: int = 1
    name: str = "layer"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if not 1 <= self.min_fan_in <= self.n_in:
            raise SettingError(
                f"min_fan_in {self.min_fan_in} is not in 1 … {self.n_in}, the number of inputs of {self.name}"
            )
        if self.mean_fan_in < self.min_fan_in * (1 - 1e-9):
            raise UnreachableError(
                f"sparsity {self.sparsity:.6g} of {self.name} is above the ceiling {self.ceiling:.6g} that "
                f"min_fan_in {self.min_fan_in} leaves with {self.n_in} inputs: lower either"
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
    def ceiling(self) -> float:
        """Largest sparsity that the minimum fan-in allows (Eq. 7)."""
        return sparsity_ceiling(self.n_in, self.min_fan_in)

    def clamp(self, raw: FloatArray) -> IntArray:
        """Round to the nearest integer and clamp to [min_fan_in, n_in] (Eq. 6)."""
        return np.clip(np.rint(raw), self.min_fan_in, self.n_in).astype(np.int64)


class FanIn(ABC):
    """A family of fan-in sequences: how many inputs each neuron of a layer receives."""

    @abstractmethod
    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Draw the fan-in of each neuron.

        Args:
            budget: Shape, sparsity and minimum fan-in of the layer.
            rng: Source of randomness; deterministic families leave it alone.

        Returns:
            Fan-in per neuron, shape ``(n_out,)``, within [min_fan_in, n_in].

        Raises:
            SettingError: If the family cannot meet its own target within this budget.
        """


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1), NaN included.

    Raises:
        SettingError: If it is.
    """
    if not 0 <= sparsity < 1:
        raise SettingError(f"sparsity {sparsity} is not in [0, 1): 0.9 keeps one connection in ten")


def sparsity_ceiling(n_in: int, min_fan_in: int = 1) -> float:
    """Largest sparsity at which every neuron keeps its minimum fan-in (Eq. 7)."""
    return 1 - min_fan_in / n_in


def scale_unclamped(relative: FloatArray, budget: LayerBudget) -> IntArray:
    """Eq. 6: scale so that the mean *before* clamping is on target, then round and clamp.

    Args:
        relative: Non-negative profile values, shape ``(n_out,)``, with a positive mean.
        budget: The layer's budget.

    Returns:
        Fan-in per neuron. Where the clamp binds, the realised sparsity departs from the target; sparsity 0
        is dense all the same.
    """
    if budget.sparsity == 0:
        return np.full(budget.n_out, budget.n_in, dtype=np.int64)
    return budget.clamp(relative / relative.mean() * budget.mean_fan_in)


def scale_clamped(log_relative: FloatArray, budget: LayerBudget) -> IntArray:
    """Section 2.3: bisect the scale so that the mean *after* rounding and clamping is on target.

    Args:
        log_relative: Logarithm of the relative fan-in, shape ``(n_out,)``: heavy tails stay finite.
        budget: The layer's budget.

    Returns:
        Fan-in per neuron, its sum as near to the target as a common scale can bring it.
    """
    log_max = np.log(budget.n_in)

    def at(log_scale: float) -> IntArray:
        # The clamp at n_in comes before exp: nothing overflows.
        return budget.clamp(np.exp(np.minimum(log_relative + log_scale, log_max)))

    low = -float(log_relative.max())  # nobody above 1
    high = float(log_max - log_relative.min())  # everybody at n_in
    log_scale = bisect(lambda t: float(at(t).sum()), budget.n_connections, low, high)
    return at(log_scale)


def settle(fan_in: IntArray, budget: LayerBudget) -> IntArray:
    """Scale a fan-in so that its sum is the budget's number of connections exactly.

    Rounding, clamping (Eq. 6) and chance (:class:`Bernoulli`) leave a family's sum near its target; what is missing
    is shared out in proportion, by largest remainder.

    Args:
        fan_in: Fan-in per neuron, shape ``(n_out,)``, within [min_fan_in, n_in].
        budget: The layer's budget.

    Returns:
        Same shape, within [min_fan_in, n_in].
    """
    total, settled = budget.n_connections, fan_in.copy()
    while (missing := total - int(settled.sum())) != 0:
        room = budget.n_in - settled if missing > 0 else settled - budget.min_fan_in
        weight = np.where(room > 0, settled, 0).astype(np.float64)
        share = np.minimum(abs(missing) * weight / weight.sum(), room)
        step = np.floor(share).astype(np.int64)
        if step.sum() == 0:
            step[np.argsort(-share, kind="stable")[: abs(missing)]] = 1
            step = np.minimum(step, room)
        settled += step if missing > 0 else -step
    return settled


def solve_ccv(
    at: Callable[[float], IntArray], target: float, largest_shape: float, family: str, budget: LayerBudget
) -> IntArray:
    """Bisect a family's shape parameter until the CCV of the integer fan-in is on target.

    Args:
        at: Shape parameter in [0, largest_shape] → fan-in; its CCV grows with the parameter.
        target: Target coefficient of variation of the fan-in; below what whole numbers of this mean can have, it
            gives the most equal ones.
        largest_shape: Where the search ends.
        family: How errors name the family.
        budget: The layer's budget, named in errors.

    Raises:
        UnreachableError: If the target is negative or above what is reachable; the message names the latter.
    """
    if not 0 <= target < np.inf:
        raise UnreachableError(f"ccv {target} of {family} must be a finite number ≥ 0")
    reachable = coefficient_of_variation(at(largest_shape))
    if target > reachable:
        raise UnreachableError(
            f"ccv {target:g} of {family} cannot be reached in {budget.name} ({budget.n_in} inputs, sparsity "
            f"{budget.sparsity:.4g}, min_fan_in {budget.min_fan_in}): the largest reachable value is {reachable:.3f} "
            f"(shape parameter up to {largest_shape:g})"
        )
    return at(bisect(lambda shape: coefficient_of_variation(at(shape)), target, _SMALLEST_SHAPE, largest_shape))


def coefficient_of_variation(values: IntArray | FloatArray) -> float:
    """Standard deviation over mean (population formula); 0 for an all-zero array."""
    mean = float(values.mean())
    return float(values.std()) / mean if mean > 0 else 0.0


def bisect(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Argument in [low, high] at which a non-decreasing step function comes nearest to ``target``."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if function(middle) < target:
            low = middle
        else:
            high = middle
    return min(low, high, key=lambda argument: abs(function(argument) - target))
