"""Fan-in from a distribution instead of a profile: lognormal, power law, uniform, Bernoulli."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psn_lightning.topology.connectivity import IntArray
from psn_lightning.topology.equilibrium import TableName, equilibrium
from psn_lightning.topology.fan_in import FanIn, LayerBudget, scale_clamped, solve_ccv

MAX_SIGMA = 8.0
"""Where the lognormal's search ends. It gives the reachable CCV of about 2.77 at 90% on 784 inputs (the
paper: 2.8); beyond it the layer is nearly two-level and the family no longer deserves its name."""

MAX_EXPONENT = 3.0
"""Where the power law's search ends: rank exponents above 3 are two-level in all but name."""


@dataclass(frozen=True)
class Lognormal(FanIn):
    """Lognormal fan-in with a target CCV, sorted in descending order (Eq. 5, section 2.2).

    σ is bisected until the CCV *after* rounding and clamping is on target; for each σ the scale is
    bisected until the mean is. The draws themselves come from the run's seed and stay the same.

    Args:
        ccv: Target coefficient of variation of the fan-in.
    """

    ccv: float = 1.0

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Draw, scale, clamp and sort."""
        normal = np.sort(rng.standard_normal(budget.n_out))[::-1]
        return solve_ccv(lambda sigma: scale_clamped(sigma * normal, budget), self.ccv, MAX_SIGMA, "Lognormal", budget)


@dataclass(frozen=True)
class LognormalAtEquilibrium(FanIn):
    """Lognormal fan-in at the CCV where RigL settles, plus an offset (section 3.3).

    Args:
        dataset: Row of the table: ``mnist``, ``fashion``, ``emnist`` or ``forest``.
        offset: Target CCV minus equilibrium CCV.
        table: Whose equilibrium: ``paper`` (Table 4, a claim) or ``measured`` (ours; a law where we have not measured).
    """

    dataset: str = "fashion"
    offset: float = 0.0
    table: TableName = "paper"

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Look the CCV up by the layer's sparsity, then draw."""
        return Lognormal(equilibrium(self.table, self.dataset, budget.sparsity) + self.offset).fan_in(budget, rng)


@dataclass(frozen=True)
class PowerLaw(FanIn):
    """Fan-in proportional to (rank + 1)^-γ, γ bisected for a target CCV (section 2.2).

    Args:
        ccv: Target coefficient of variation of the fan-in.
    """

    ccv: float = 1.0

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Scale and clamp; deterministic."""
        log_rank = np.log1p(np.arange(budget.n_out, dtype=np.float64))
        return solve_ccv(
            lambda gamma: scale_clamped(-gamma * log_rank, budget), self.ccv, MAX_EXPONENT, "PowerLaw", budget
        )


@dataclass(frozen=True)
class Uniform(FanIn):
    """Equal fan-in, the paper's "random" baseline (CCV 0).

    Where the mean is not an integer, neighbouring integers alternate evenly over the neurons, so that
    the number of connections is on target.
    """

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Share the connections out; deterministic."""
        bounds = np.arange(budget.n_out + 1, dtype=np.int64) * budget.n_connections // budget.n_out
        return np.diff(bounds)


@dataclass(frozen=True)
class Bernoulli(FanIn):
    """Every connection is there with probability 1 - sparsity: binomial fan-in, as unstructured masks have."""

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Draw and clamp."""
        return budget.clamp(rng.binomial(budget.n_in, 1 - budget.sparsity, budget.n_out).astype(np.float64))
