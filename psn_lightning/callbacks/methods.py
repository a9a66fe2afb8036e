"""The methods by name: a rule, its schedule and its canonical settings as one callback."""

from __future__ import annotations

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.dynamics import (
    ConstantSchedule,
    CosineSchedule,
    CubicSchedule,
    MagnitudePruningRule,
    RigLRule,
    SETRule,
    SRigLRule,
)


class RigL(DynamicTopology):
    """RigL (Evci et al., 2020): drop the smallest weights, grow the largest gradients, on a cosine schedule.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (α).
        period: Optimizer steps between updates (int, ΔT), or epochs (float).
        begin: First update: a step (int), a share of the run (float), or null: one period after the start.
        end: End of the updates: a step (int), or a share of the run (float).
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in the original.
        layers: Glob patterns of the layers to rewrite; null: every sparse layer.
        seed: Seed of random growth; null: that of seed_everything.
    """

    def __init__(
        self,
        drop_fraction: float = 0.3,
        period: int | float = 100,
        begin: int | float | None = 0,
        end: int | float = 0.75,
        skip_step_on_update: bool = True,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            RigLRule(), CosineSchedule(drop_fraction, period, begin, end), skip_step_on_update, layers, seed
        )


class SRigL(DynamicTopology):
    """SRigL (Lasby et al., 2024): RigL with the same fan-in for every neuron, and neuron ablation.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (α).
        gamma_sal: Share of the fan-in that must be salient, or the neuron is ablated (γ_sal).
        period: Optimizer steps between updates (int, ΔT), or epochs (float).
        begin: First update: a step (int), a share of the run (float), or null: one period after the start.
        end: End of the updates: a step (int), or a share of the run (float).
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in RigL.
        layers: Glob patterns of the layers to rewrite; null: every sparse layer.
        seed: Seed of random growth; null: that of seed_everything.
    """

    def __init__(
        self,
        drop_fraction: float = 0.3,
        gamma_sal: float = 0.3,
        period: int | float = 100,
        begin: int | float | None = 0,
        end: int | float = 0.75,
        skip_step_on_update: bool = True,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = CosineSchedule(drop_fraction, period, begin, end)
        super().__init__(SRigLRule(gamma_sal), schedule, skip_step_on_update, layers, seed)


class SET(DynamicTopology):
    """SET (Mocanu et al., 2018): after every epoch replace a share of the weights nearest zero by random ones.

    Args:
        drop_fraction: Share of a layer's positive and of its negative weights to replace (ζ).
        period: Optimizer steps between updates (int), or epochs (float).
        begin: First update: a step (int), a share of the run (float), or null: one period after the start.
        end: End of the updates: a step (int), or a share of the run (float).
        layers: Glob patterns of the layers to rewrite; null: every sparse layer.
        seed: Seed of random growth; null: that of seed_everything.
    """

    def __init__(
        self,
        drop_fraction: float = 0.3,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 1.0,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(SETRule(), ConstantSchedule(drop_fraction, period, begin, end), False, layers, seed)


class GMP(DynamicTopology):
    """Gradual magnitude pruning (Zhu & Gupta, 2017): from dense to sparse on a cubic schedule.

    Args:
        final_sparsity: Sparsity of each hidden layer after the last update.
        period: Optimizer steps between updates (int, Δt), or epochs (float).
        begin: First update: a step (int, t_0), a share of the run (float), or null: one period after the start.
        end: End of the updates: a step (int), or a share of the run (float).
        layers: Glob patterns of the layers to rewrite; null: every sparse layer.
        seed: Seed of random growth; null: that of seed_everything.
    """

    def __init__(
        self,
        final_sparsity: float = 0.9,
        period: int | float = 100,
        begin: int | float | None = 0,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = CubicSchedule(1.0, period, begin, end)
        super().__init__(MagnitudePruningRule(final_sparsity), schedule, False, layers, seed)
