"""Cannistraci-Hebb training as callbacks: growth by the structure of the network, without gradients."""

from __future__ import annotations

import lightning.pytorch as pl

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.layers import select_layers
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.dynamics import CHTRule, CHTsRule, CHTssRule, ConstantSchedule, CosineSchedule
from psn_lightning.dynamics.rules.cannistraci_hebb import ScoreName
from psn_lightning.dynamics.rules.chts import Removal
from psn_lightning.nn.chains import find_chains


class _WithChains(DynamicTopology):
    """Callback whose rule percolates; finds the layers that feed each other, unless they are given."""

    rule: CHTRule
    _finds_chains: bool | None = None  # whether no chains were given; None until the first fit

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the chains of layers, then check rule, schedule and layers.

        Raises:
            SettingError: If a check fails, see :meth:`DynamicTopology.setup`.
        """
        if self._finds_chains is None:
            self._finds_chains = self.rule.chains is None
        if stage == "fit" and self._finds_chains:  # anew for each fit, which may be of another module
            sparsify_first(trainer, pl_module)
            self.rule.chains = find_chains(pl_module, select_layers(pl_module, self.layers))
        super().setup(trainer, pl_module, stage)


class CHT(_WithChains):
    """CHT: drop the smallest |weight|, percolate, grow the highest Cannistraci-Hebb scores, until it repeats itself.

    Source: Zhang et al., 2024, Epitopological learning and Cannistraci-Hebb network shape intelligence brain-inspired
    theory for ultra-sparse advantage in deep learning (ICLR 2024).

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (ζ), in (0, 1]; a cosine follows.
        score: Score of a candidate: CH3-L3p, CH3-L3n or CH2-L3n.
        chains: Names of layers that feed each other directly, first to last, for percolation: lists of lists; an empty
            list switches percolation off. By default those that follow each other in an ``nn.Sequential``.
        stop_overlap: Overlap of the connections grown with those just dropped, above which a layer's topology is final,
            in (0, 1]; 1 never stops.
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
        chains: list[list[str]] | None = None,
        stop_overlap: float = 0.9,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = CosineSchedule(drop_fraction, period, begin, end)
        super().__init__(CHTRule(score, chains, stop_overlap), schedule, False, layers, seed)


class CHTs(_WithChains):
    """CHTs: CHT that removes and grows at random, in proportion to weights and scores.

    Source: Zhang et al., 2026, arXiv 2501.19107, section 3.

    Args:
        drop_fraction: Share of a layer's connections to replace (ζ), in (0, 1].
        removal: Quantity by which connections are kept: magnitude, or importance, the share of |weight| among those of
            the same neuron plus the share among those of the same input.
        temperature: Exponent of that quantity at the last update, from 1 at the first; the larger, the less random.
        score: Score of a candidate: CH3-L3p, CH3-L3n or CH2-L3n.
        chains: Names of layers that feed each other directly, first to last, for percolation: lists of lists; an empty
            list switches percolation off. By default those that follow each other in an ``nn.Sequential``.
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
        chains: list[list[str]] | None = None,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        schedule = ConstantSchedule(drop_fraction, period, begin, end)
        super().__init__(CHTsRule(removal, score, temperature, chains), schedule, False, layers, seed)


class CHTss(_WithChains):
    """CHTss: CHTs whose sparsity rises along a sigmoid, from 0.5 in the paper.

    Source: Zhang et al., 2026, arXiv 2501.19107, section 3.

    Args:
        final_sparsity: Sparsity of each layer after the last update, in [0, 1).
        drop_fraction: Share of a layer's connections to replace (ζ), in (0, 1].
        removal: Quantity by which connections are kept: magnitude, or importance, the share of |weight| among those of
            the same neuron plus the share among those of the same input.
        temperature: Exponent of that quantity at the last update, from 1 at the first; the larger, the less random.
        score: Score of a candidate: CH2-L3n, CH3-L3n, or CH3-L3p, which takes minutes for the paths of a denser start.
        chains: Names of layers that feed each other directly, first to last, for percolation: lists of lists; an empty
            list switches percolation off. By default those that follow each other in an ``nn.Sequential``.
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
        score: ScoreName = "CH2-L3n",
        chains: list[list[str]] | None = None,
        period: int | float = 1.0,
        begin: int | float | None = None,
        end: int | float = 0.75,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        rule = CHTssRule(final_sparsity, removal, score, temperature, chains)
        super().__init__(rule, ConstantSchedule(drop_fraction, period, begin, end), False, layers, seed)
