"""Integer fan-in of each neuron: base of the families, budget of a layer, scaling and bisection.

The families are in :mod:`profiles` and :mod:`distributions`. This module has the parts that they share: the clamp of
Eq. 6, the ceiling of Eq. 7 and the bisections of section 2.2.
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

_BISECTIONS = 60  # enough to halve every bracket used here below the float resolution
_SMALLEST_SHAPE = 1e-6  # at 0 all neurons are equal and gain a connection together: the mean would miss its target


@dataclass(frozen=True)
class LayerBudget:
    """Shape and number of connections of a layer.

    Args:
        n_in: Number of inputs.
        n_out: Number of neurons.
        sparsity: Target fraction of absent connections, in [0, 1).
        min_fan_in: Smallest fan-in of a neuron (``k_min`` of Eq. 6), in [1, n_in].
        name: Name of the layer in errors.

    Raises:
        SettingError: If the sparsity or the minimum fan-in is out of range.
        UnreachableError: If the sparsity is above the ceiling of Eq. 7.
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
                f"min_fan_in {self.min_fan_in} is not in 1 … {self.n_in}, where {self.n_in} is the number of inputs of "
                f"{self.name}"
            )
        if self.mean_fan_in < self.min_fan_in * (1 - 1e-9):
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


def scale_unclamped(relative: FloatArray, budget: LayerBudget) -> IntArray:
    """Scale a profile so that the mean *before* clamping is on target, then round and clamp (Eq. 6).

    Args:
        relative: Non-negative profile values, shape ``(n_out,)``, with a positive mean.
        budget: Budget of the layer.

    Returns:
        Fan-in, shape ``(n_out,)``. The clamp can move the realised sparsity away from the target; sparsity 0 always
        gives a dense layer.
    """
    if budget.sparsity == 0:
        return np.full(budget.n_out, budget.n_in, dtype=np.int64)
    return budget.clamp(relative / relative.mean() * budget.mean_fan_in)


def scale_clamped(log_relative: FloatArray, budget: LayerBudget) -> IntArray:
    """Bisect the scale so that the mean *after* rounding and clamping is on target (section 2.3).

    Args:
        log_relative: Logarithm of the relative fan-in, shape ``(n_out,)``; it keeps heavy tails finite.
        budget: Budget of the layer.

    Returns:
        Fan-in, shape ``(n_out,)``. The sum is as near to the target as a common scale allows.
    """
    log_max = np.log(budget.n_in)

    def at(log_scale: float) -> IntArray:
        # Clamped at n_in before exp, which would overflow.
        return budget.clamp(np.exp(np.minimum(log_relative + log_scale, log_max)))

    low = -float(log_relative.max())  # no neuron above 1
    high = float(log_max - log_relative.min())  # all neurons at n_in
    log_scale = bisect(lambda t: float(at(t).sum()), budget.n_connections, low, high)
    return at(log_scale)


def settle(fan_in: IntArray, budget: LayerBudget) -> IntArray:
    """Adjust a fan-in so that the sum is the budget's number of connections exactly.

    Rounding, clamping (Eq. 6) and chance (:class:`Bernoulli`) leave the sum near the target. The difference is
    distributed in proportion to the fan-in, by largest remainder.

    Args:
        fan_in: Fan-in, shape ``(n_out,)``, in [min_fan_in, n_in].
        budget: Budget of the layer.

    Returns:
        Fan-in, shape ``(n_out,)``, in [min_fan_in, n_in].
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
    """Bisect the shape parameter of a family until the CCV of the integer fan-in is on target.

    Args:
        at: Function from the shape parameter, in [0, largest_shape], to the fan-in; the CCV increases with the
            parameter.
        target: Target CCV, the coefficient of variation of the fan-in: std / mean. A target below the CCV of the most
            equal integers of this mean gives those.
        largest_shape: Largest shape parameter.
        family: Name of the family in errors.
        budget: Budget of the layer.

    Returns:
        Fan-in, shape ``(n_out,)``.

    Raises:
        UnreachableError: If the target is negative, not finite or above the largest reachable CCV, which the message
            states.
    """
    if not 0 <= target < np.inf:
        raise UnreachableError(f"ccv {target} of {family} must be a finite number ≥ 0")
    reachable = coefficient_of_variation(at(largest_shape))
    if target > reachable:
        raise UnreachableError(
            f"ccv {target:g} of {family} cannot be reached in {budget.name} ({budget.n_in} inputs, sparsity "
            f"{budget.sparsity:.4g}, min_fan_in {budget.min_fan_in}): the largest reachable value is {reachable:.3f} "
            f"(at shape parameter {largest_shape:g}); use a lower ccv"
        )
    return at(bisect(lambda shape: coefficient_of_variation(at(shape)), target, _SMALLEST_SHAPE, largest_shape))


def coefficient_of_variation(values: IntArray | FloatArray) -> float:
    """Coefficient of variation: population standard deviation divided by the mean; 0 for an all-zero array."""
    mean = float(values.mean())
    return float(values.std()) / mean if mean > 0 else 0.0


def bisect(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Argument in [low, high] at which a non-decreasing step function is nearest to a target.

    Args:
        function: Non-decreasing function.
        target: Target value.
        low: Lower end of the bracket.
        high: Upper end of the bracket.
    """
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if function(middle) < target:
            low = middle
        else:
            high = middle
    return min(low, high, key=lambda argument: abs(function(argument) - target))
