"""Scaling of relative fan-ins to a budget, and of a distribution to its CCV, by the bisections of section 2.2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from psn_lightning.errors import UnreachableError
from psn_lightning.topology.connectivity import IntArray
from psn_lightning.topology.fan_in import FanIn, FloatArray, LayerBudget

_BISECTIONS = 60  # enough to halve every bracket used here below the float resolution
_SMALLEST_SHAPE = 1e-6  # at 0 all neurons are equal and gain a connection together: the mean would miss its target


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
    """Adjust a fan-in so that the sum is the budget's number of connections exactly, or the least above the ceiling.

    Rounding, clamping (Eq. 6) and chance (:class:`Bernoulli`) leave the sum near the target. The difference is
    distributed in proportion to the fan-in, by largest remainder.

    Args:
        fan_in: Fan-in, shape ``(n_out,)``, in [min_fan_in, n_in].
        budget: Budget of the layer.

    Returns:
        Fan-in, shape ``(n_out,)``, in [min_fan_in, n_in].
    """
    total, settled = budget.n_reachable, fan_in.copy()
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


def draw_exactly(family: FanIn, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
    """Draw the fan-in of a family and settle it; a layer without absent connections is dense for every family.

    Args:
        family: Family of the fan-in.
        budget: Budget of the layer.
        rng: Random generator.

    Returns:
        Fan-in, shape ``(n_out,)``, in [min_fan_in, n_in].

    Raises:
        UnreachableError: If the family cannot give its fan-in in this layer.
    """
    if budget.n_connections == budget.n_in * budget.n_out:
        return np.full(budget.n_out, budget.n_in, dtype=np.int64)
    return settle(family.fan_in(budget, rng), budget)


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
