"""Published methods that change the density during the run, as callbacks."""

from __future__ import annotations

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.dynamics import (
    ACDCRule,
    ConstantSchedule,
    CosineSchedule,
    CubicSchedule,
    GraNetRule,
    MagnitudePruningRule,
)


class GMP(DynamicTopology):
    """Gradual magnitude pruning (GMP): prune the smallest |weight| on a cubic schedule.

    Source: Zhu & Gupta, 2018, arXiv 1710.01878, Eq. 1.

    Args:
        final_sparsity: Sparsity of each layer after the last update (s_f), in [0, 1).
        period: Time between updates: optimizer steps (int, Δt) or epochs (float).
        begin: First update: an optimizer step (int, t_0), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        layers: Glob patterns of the names of the layers to prune; all sparse layers by default.
        seed: Seed of the random generator, which GMP does not use; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
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


class GraNet(DynamicTopology):
    """GraNet: prune over all layers on a cubic path, and replace connections like RigL at every update.

    Source: Liu et al., 2021, arXiv 2106.10404, section 3; it starts at sparsity 0.5 (erk), or dense.

    Args:
        final_sparsity: Sparsity of all updated layers together after pruning (s_f), in [0, 1).
        drop_fraction: Share of a layer's connections that the first update replaces (r), in (0, 1]; a cosine follows.
        until: Share of the updates in which the network is pruned, from the first on, in (0, 1].
        period: Time between updates: optimizer steps (int) or epochs (float).
        begin: First update: an optimizer step (int), a share of the run (float), or None for one period after the
            start.
        end: End of the updates: an optimizer step (int) or a share of the run (float).
        skip_step_on_update: Whether an update replaces the optimizer step.
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of the rule's random numbers; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        final_sparsity: float = 0.9,
        drop_fraction: float = 0.5,
        until: float = 0.5,
        period: int | float = 100,
        begin: int | float | None = None,
        end: int | float = 1.0,
        skip_step_on_update: bool = False,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = CosineSchedule(drop_fraction, period, begin, end)
        super().__init__(GraNetRule(final_sparsity, until), schedule, skip_step_on_update, layers, seed)


class ACDC(DynamicTopology):
    """AC/DC: phases of dense and of sparse training in turn, from a dense start to a sparse end.

    Source: Peste et al., 2021, arXiv 2106.12379, Algorithm 1: warm-up until 10% of the run, phases of 5%, the last
    dense one until 85%; so do the defaults in a run of 20 epochs. With an even number of updates the warm-up takes one
    phase longer.

    Args:
        final_sparsity: Sparsity of all updated layers together in sparse phases, in [0, 1).
        period: Length of a phase: optimizer steps (int) or epochs (float).
        begin: End of the dense warm-up: an optimizer step (int), a share of the run (float), or None for one period.
        end: End of the phases, exclusive, after which the network stays sparse: an optimizer step (int) or a share of
            the run (float).
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of the rule's random numbers; the seed of seed_everything by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        final_sparsity: float = 0.9,
        period: int | float = 1.0,
        begin: int | float | None = 0.1,
        end: int | float = 0.86,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = ConstantSchedule(1.0, period, begin, end)
        super().__init__(ACDCRule(final_sparsity), schedule, False, layers, seed)
