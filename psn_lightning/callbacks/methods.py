"""Published methods of a constant density as callbacks: each combines a rule, a schedule and its paper's settings."""

from __future__ import annotations

from typing import Literal

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.dynamics import (
    ConstantSchedule,
    CosineSchedule,
    GSERule,
    MESTRule,
    RigLRule,
    SETRule,
    SRigLRule,
    StepSchedule,
)
from psn_lightning.dynamics.rules.gse import DistributionName


class RigL(DynamicTopology):
    """RigL: drop the smallest |weight|, grow the largest |gradient|, on a cosine schedule.

    Source: Evci et al., 2020, arXiv 1911.11134, section 3.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (α), in (0, 1].
        period: Time between updates: optimizer steps (int, ΔT) or epochs (float).
        begin: First update: an optimizer step (int), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        skip_step_on_update: Whether an update replaces the optimizer step, as in the paper.
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of random growth; the seed of seed_everything by default.
        candidates: Candidates for growth: all absent positions, or as many as a multiple of the connections, drawn at
            random, so that an update costs time in proportion to the connections.

    Raises:
        SettingError: If an argument is out of range.
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
        candidates: Literal["all"] | float = "all",
    ) -> None:
        schedule = CosineSchedule(drop_fraction, period, begin, end)
        super().__init__(RigLRule(candidates), schedule, skip_step_on_update, layers, seed)


class GSE(DynamicTopology):
    """GSE: drop the smallest |weight|, grow the largest |gradient| among positions drawn at random.

    Source: Heddes et al., 2024, arXiv 2401.06898, section 3; there an update every 1000 steps of 200 epochs. No update
    looks at all positions of a layer: it costs time in proportion to the connections.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces, in (0, 1].
        distribution: Distribution of the positions: uniform, grabo (by the sums of |gradient| and |input| over the
            batch) or graest (by sums with random signs).
        candidates: Positions to draw, as a multiple of the connections (γ), above 0.
        period: Time between updates: optimizer steps (int) or epochs (float).
        begin: First update: an optimizer step (int), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of the draws; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        drop_fraction: float = 0.2,
        distribution: DistributionName = "grabo",
        candidates: float = 1.0,
        period: int | float = 100,
        begin: int | float | None = None,
        end: int | float = 0.6,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = CosineSchedule(drop_fraction, period, begin, end)
        super().__init__(GSERule(distribution, candidates), schedule, False, layers, seed)


class SRigL(DynamicTopology):
    """SRigL: RigL with an equal fan-in of all neurons and neuron ablation.

    Source: Lasby et al., 2024, arXiv 2305.02299, section 3.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (α), in (0, 1].
        gamma_sal: Share of the fan-in that must be salient, or the neuron is ablated (γ_sal), in [0, 1].
        period: Time between updates: optimizer steps (int, ΔT) or epochs (float).
        begin: First update: an optimizer step (int), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        skip_step_on_update: Whether an update replaces the optimizer step, as in RigL.
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of random growth; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
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
    """SET: after every epoch drop the weights nearest zero and grow as many connections at random.

    Source: Mocanu et al., 2018, Nature Communications 9:2383, Algorithm 1.

    Args:
        drop_fraction: Share of a layer's positive and of its negative weights to drop (ζ), in (0, 1].
        period: Time between updates: optimizer steps (int) or epochs (float).
        begin: First update: an optimizer step (int), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of random growth; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
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


class MEST(DynamicTopology):
    """MEST: drop the smallest |weight| + λ |gradient|, grow at random, fewer and fewer in three phases.

    Source: Yuan et al., 2021, arXiv 2110.14032, section 3; there an update every 5 of 160 epochs.

    Args:
        drop_fraction: Share of a layer's connections to replace in the first phase; half of it in the second, none in
            the third.
        gradient_weight: Weight λ of the gradient in the drop score, at least 0.
        soft: Whether connections are grown before others are dropped (EM&S): from one update to the next the network
            is denser than its target by the fraction; at the end it has its target.
        period: Time between updates: optimizer steps (int) or epochs (float).
        begin: First update: an optimizer step (int), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of the rule's random numbers; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        drop_fraction: float = 0.2,
        gradient_weight: float = 0.01,
        soft: bool = False,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 1.0,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = StepSchedule(drop_fraction, period, begin, end)
        super().__init__(MESTRule(gradient_weight, soft), schedule, False, layers, seed)
