"""Cannistraci-Hebb training as callbacks: growth by the structure of the network, without gradients."""

from __future__ import annotations

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.dynamics import CHTRule, CHTsRule, CHTssRule, ConstantSchedule, CosineSchedule
from psn_lightning.dynamics.rules.cannistraci_hebb import ScoreName
from psn_lightning.dynamics.rules.chts import Removal


class CHT(DynamicTopology):
    """CHT: drop the smallest |weight|, percolate, grow the highest Cannistraci-Hebb scores, until it repeats itself.

    Source: Zhang et al., 2024, Epitopological learning and Cannistraci-Hebb network shape intelligence brain-inspired
    theory for ultra-sparse advantage in deep learning (ICLR 2024).

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (ζ), in (0, 1]; a cosine follows.
        score: Score of a candidate: CH3-L3p, CH3-L3n or CH2-L3n.
        chain: Names of the layers that feed each other directly, first to last, for percolation; an empty list switches
            percolation off. All updated layers in their order by default.
        stop_overlap: Overlap of the connections grown with those just dropped, above which a layer's topology is final,
            in (0, 1].
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
        drop_fraction: float = 0.3,
        score: ScoreName = "CH3-L3p",
        chain: list[str] | None = None,
        stop_overlap: float = 0.9,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = CosineSchedule(drop_fraction, period, begin, end)
        super().__init__(CHTRule(score, chain, stop_overlap), schedule, False, layers, seed)


class CHTs(DynamicTopology):
    """CHTs: CHT that removes and grows at random, in proportion to weights and scores.

    Source: Zhang et al., 2026, arXiv 2501.19107, section 3.

    Args:
        drop_fraction: Share of a layer's connections to replace (ζ), in (0, 1].
        removal: Quantity by which connections are kept: magnitude, or importance, the share of |weight| among those of
            the same neuron plus the share among those of the same input.
        temperature: Exponent of that quantity at the last update, from 1 at the first; the larger, the less random.
        score: Score of a candidate: CH3-L3p, CH3-L3n or CH2-L3n.
        chain: Names of the layers that feed each other directly, first to last, for percolation; an empty list switches
            percolation off. All updated layers in their order by default.
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
        drop_fraction: float = 0.3,
        removal: Removal = "magnitude",
        temperature: float = 3.0,
        score: ScoreName = "CH3-L3p",
        chain: list[str] | None = None,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = ConstantSchedule(drop_fraction, period, begin, end)
        super().__init__(CHTsRule(removal, score, temperature, chain), schedule, False, layers, seed)


class CHTss(DynamicTopology):
    """CHTss: CHTs whose sparsity rises along a sigmoid, from 0.5 in the paper.

    Source: Zhang et al., 2026, arXiv 2501.19107, section 3.

    Args:
        final_sparsity: Sparsity of each layer after the last update, in [0, 1).
        drop_fraction: Share of a layer's connections to replace (ζ), in (0, 1].
        removal: Quantity by which connections are kept: magnitude, or importance, the share of |weight| among those of
            the same neuron plus the share among those of the same input.
        temperature: Exponent of that quantity at the last update, from 1 at the first; the larger, the less random.
        score: Score of a candidate: CH3-L3p, CH3-L3n or CH2-L3n.
        chain: Names of the layers that feed each other directly, first to last, for percolation; an empty list switches
            percolation off. All updated layers in their order by default.
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
        final_sparsity: float = 0.9,
        drop_fraction: float = 0.3,
        removal: Removal = "importance",
        temperature: float = 3.0,
        score: ScoreName = "CH3-L3p",
        chain: list[str] | None = None,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        rule = CHTssRule(final_sparsity, removal, score, temperature, chain)
        super().__init__(rule, ConstantSchedule(drop_fraction, period, begin, end), False, layers, seed)
