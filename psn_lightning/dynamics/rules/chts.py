"""Soft Cannistraci-Hebb training: removal and growth at random, in proportion to weights and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.cannistraci_hebb import ScoreName
from psn_lightning.dynamics.rules.cht import CHTRule
from psn_lightning.dynamics.rules.targets import check_each_starts_denser, count_final, replace_down_to
from psn_lightning.dynamics.schedules import SigmoidSchedule
from psn_lightning.dynamics.selection import select_top
from psn_lightning.dynamics.views import Block, Connections, LayerState, Update
from psn_lightning.errors import SettingError
from psn_lightning.topology import check_sparsity

Removal = Literal["magnitude", "importance"]

_TINY = torch.finfo(torch.float64).tiny


class CHTsRule(CHTRule):
    """CHTs: CHT with soft removal and soft growth (Zhang et al., 2026, arXiv 2501.19107, section 3).

    Connections are kept at random without replacement, in proportion to q^T, and candidates are grown in proportion to
    their score. q is |weight|, or its relative importance: the share of its neuron's sum of |weight| plus the share of
    its input's. T rises linearly from 1 to ``temperature`` over the updates; large T is the hard removal of CHT.

    Args:
        removal: Quantity q of a connection: ``magnitude`` or ``importance``.
        score: Score of a candidate, see :class:`~psn_lightning.dynamics.rules.cannistraci_hebb.LinkScores`.
        temperature: Exponent T at the last update, at least 1.
        chains: Layers that feed each other directly, see :class:`CHTRule`.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        removal: Removal = "magnitude",
        score: ScoreName = "CH3-L3p",
        temperature: float = 3.0,
        chains: Sequence[Sequence[str]] | None = None,
    ) -> None:
        super().__init__(score, chains, stop_overlap=1.0)
        if removal not in get_args(Removal):
            raise SettingError(f"removal {removal!r} is not one of {', '.join(get_args(Removal))}")
        if not 1 <= temperature < float("inf"):
            raise SettingError(f"temperature {temperature} must be a number ≥ 1: the paper's code uses 3")
        self.removal: Removal = removal
        self.temperature = temperature
        self._exponent = 1.0

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Compute the exponent of the removal."""
        self._exponent = 1 + (self.temperature - 1) * update.progress

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """T log q plus Gumbel noise, whose highest are such a draw; shape ``(n_connections,)``, float64."""
        return self.draw_scores(self.measure(connections), generator)

    def draw_scores(self, quantity: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the scores of connections from their quantities q."""
        return self._exponent * quantity.log() + draw_gumbel(quantity, generator)

    def measure(self, connections: Connections) -> Tensor:
        """Compute the quantity q of each connection, float64, shape ``(n_connections,)``."""
        return measure_importance(connections) if self.removal == "importance" else connections.weight.abs().double()

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Logarithm of the score plus Gumbel noise, far lower at positions without path; shape ``(neurons, n_in)``."""
        scores = self.score_links(block)
        noise = draw_gumbel(scores, generator)
        return torch.where(scores > 0, scores.log() + noise, noise - 1e6)


class CHTssRule(CHTsRule):
    """CHTss: CHTs with a sparsity that rises along a sigmoid (Zhang et al., 2026, arXiv 2501.19107, section 3).

    Each layer is pruned to the sparsity of :class:`SigmoidSchedule`, from that of the start (0.5 in the paper) to
    ``final_sparsity``, by the quantity q of the removal; then connections are replaced as in :class:`CHTsRule`.

    Args:
        final_sparsity: Sparsity of each layer after the last update, in [0, 1).
        removal: Quantity q of a connection: ``magnitude`` or ``importance``.
        score: Score of a candidate, see :class:`~psn_lightning.dynamics.rules.cannistraci_hebb.LinkScores`. At half of
            the density there are too many paths for CH3-L3p.
        temperature: Exponent T at the last update, at least 1.
        chains: Layers that feed each other directly, see :class:`CHTRule`.

    Raises:
        SettingError: If an argument is out of range.
    """

    keeps_count = False
    ends_at_target = True

    def __init__(
        self,
        final_sparsity: float = 0.9,
        removal: Removal = "importance",
        score: ScoreName = "CH2-L3n",
        temperature: float = 3.0,
        chains: Sequence[Sequence[str]] | None = None,
    ) -> None:
        super().__init__(removal, score, temperature, chains)
        check_sparsity(final_sparsity)
        self.final_sparsity = final_sparsity
        self._remaining: dict[str, int] = {}

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check also that each layer starts denser than it ends, with a connection left."""
        super().check(layers)
        check_each_starts_denser(layers, self.final_sparsity)

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Compute the number of connections of each layer after the update."""
        super().prepare(layers, update)
        share = SigmoidSchedule().factor(update.progress)
        for name, connections in layers.items():
            final = count_final(connections.layer, self.final_sparsity)
            target = round(final + (connections.layer.n_initial - final) * share)
            self._remaining[name] = min(target, connections.layer.n_active)

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to prune and to replace."""
        return replace_down_to(self._remaining[layer.name], layer, update.fraction)

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Scores of the soft removal, minus infinity for what is pruned first."""
        quantity = self.measure(connections)
        pruned = torch.ones_like(quantity, dtype=torch.bool)
        pruned[select_top(quantity, self._remaining[connections.layer.name])] = False
        return self.draw_scores(quantity, generator).masked_fill(pruned, -torch.inf)


def measure_importance(connections: Connections) -> Tensor:
    """Compute |w| / Σ|w| of the same neuron + |w| / Σ|w| of the same input, float64, shape ``(n_connections,)``.

    The sums are taken on the CPU: their order, and so the masks, must not differ between processes.
    """
    magnitude = connections.weight.abs().double().cpu()
    importance = torch.zeros_like(magnitude)
    for node in (connections.neuron.cpu(), connections.input.cpu()):
        importance += magnitude / torch.bincount(node, weights=magnitude)[node].clamp(min=_TINY)
    return importance.to(connections.weight.device)


def draw_gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard Gumbel noise of the shape and on the device of a tensor, float64."""
    uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64).clamp(min=_TINY)
    return -(-uniform.log()).log().to(like.device)
