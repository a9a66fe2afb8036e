"""Fan-in by a distribution instead of a profile: lognormal, power law, uniform, Bernoulli; and in random order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from psn_lightning.topology.connectivity import IntArray
from psn_lightning.topology.equilibrium import TableName, equilibrium
from psn_lightning.topology.fan_in import FanIn, LayerBudget
from psn_lightning.topology.scaling import scale_clamped, solve_ccv

MAX_SIGMA = 8.0
"""Largest σ of the lognormal. It reaches a CCV of 2.77 at sparsity 0.9 on 784 inputs (paper: 2.8).

Larger values give a fan-in of nearly two levels, which is not lognormal any more.
"""

MAX_EXPONENT = 3.0
"""Largest exponent of the power law. Larger values give a fan-in of nearly two levels."""


@dataclass(frozen=True)
class Lognormal(FanIn):
    """Lognormal fan-in with a target CCV, sorted in descending order (Eq. 5, section 2.2).

    σ is bisected until the CCV *after* rounding and clamping is on target; for each σ the scale is bisected until the
    mean is on target. All σ use the same normal draws.

    Args:
        ccv: Target CCV, the coefficient of variation of the fan-in: std / mean.
    """

    ccv: float = 1.0

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``, in descending order.

        Raises:
            UnreachableError: If the CCV cannot be reached in this layer.
        """
        normal = np.sort(rng.standard_normal(budget.n_out))[::-1]
        return solve_ccv(lambda sigma: scale_clamped(sigma * normal, budget), self.ccv, MAX_SIGMA, "Lognormal", budget)


@dataclass(frozen=True)
class LognormalAtEquilibrium(FanIn):
    """Lognormal fan-in at the CCV of RigL's equilibrium plus an offset (section 3.3).

    Args:
        dataset: Row of the table: ``mnist``, ``fashion``, ``emnist`` or ``forest``.
        offset: Target CCV minus equilibrium CCV.
        table: Equilibrium table: ``paper`` (Table 4) or ``measured`` (this package's, and its law where no run was
            measured).
    """

    dataset: str = "fashion"
    offset: float = 0.0
    table: TableName = "paper"

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``, at the CCV tabulated for the sparsity of the layer.

        Raises:
            SettingError: If the table has no entry for the sparsity.
            UnreachableError: If the CCV cannot be reached in this layer.
        """
        return Lognormal(equilibrium(self.table, self.dataset, budget.sparsity) + self.offset).fan_in(budget, rng)


@dataclass(frozen=True)
class PowerLaw(FanIn):
    """Fan-in proportional to (rank + 1)^-γ, with γ bisected for a target CCV (section 2.2).

    Args:
        ccv: Target CCV, the coefficient of variation of the fan-in: std / mean.
    """

    ccv: float = 1.0

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``, in descending order; deterministic.

        Raises:
            UnreachableError: If the CCV cannot be reached in this layer.
        """
        log_rank = np.log1p(np.arange(budget.n_out, dtype=np.float64))
        return solve_ccv(
            lambda gamma: scale_clamped(-gamma * log_rank, budget), self.ccv, MAX_EXPONENT, "PowerLaw", budget
        )


@dataclass(frozen=True)
class Uniform(FanIn):
    """Equal fan-in, the paper's "random" baseline (CCV 0).

    If the mean is not an integer, the two neighbouring integers alternate evenly over the neurons: the number of
    connections is on target.
    """

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``; deterministic."""
        bounds = np.arange(budget.n_out + 1, dtype=np.int64) * budget.n_connections // budget.n_out
        return budget.clamp(np.diff(bounds).astype(np.float64))


@dataclass(frozen=True)
class Bernoulli(FanIn):
    """Binomial fan-in, as in unstructured masks: every connection is present with probability 1 - sparsity."""

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``."""
        return budget.clamp(rng.binomial(budget.n_in, 1 - budget.sparsity, budget.n_out).astype(np.float64))


@dataclass(frozen=True)
class Shuffled(FanIn):
    """Fan-in of another family, its neurons in random order.

    Neurons of a layer are exchangeable, so that order should not matter. Where it does, position decides something:
    the profiles and the lognormal family have their hubs in a row.

    Args:
        family: Family of the fan-in.
    """

    family: FanIn = field(default_factory=Lognormal)

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``.

        Raises:
            UnreachableError: If the family cannot reach its target in this layer.
        """
        return rng.permutation(self.family.fan_in(budget, rng))
