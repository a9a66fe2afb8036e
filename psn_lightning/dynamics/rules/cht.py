"""Cannistraci-Hebb training: grows where the paths of length 3 say that a link is missing. No gradient is needed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.cannistraci_hebb import LARGEST, LinkScores, ScoreName, check_score, percolate
from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Update
from psn_lightning.errors import SettingError

_MANY_PATHS = 2e9  # of a layer: several seconds on one thread


class CHTRule(Rule):
    """CHT: drop the smallest |weight|, percolate, grow the highest Cannistraci-Hebb scores (Zhang et al., 2024).

    Source: Epitopological learning and Cannistraci-Hebb network shape intelligence, ICLR 2024. Percolation removes the
    connections of neurons that nothing feeds or that feed nothing; growth makes up for them. A layer's topology is
    final once more than ``stop_overlap`` of the connections it grows are those that it has just dropped. Where fewer
    candidates have a score above 0 than are to be grown, the rest is drawn at random.

    Args:
        score: Score of a candidate, see :class:`~psn_lightning.dynamics.rules.cannistraci_hebb.LinkScores`.
        chains: Names of layers that feed each other directly, first to last, for percolation: several such lists, or
            none to switch percolation off. By default one of all updated layers, in their order.
        stop_overlap: Overlap above which a layer's topology is final, in (0, 1]; 1 never.

    Raises:
        SettingError: If an argument is out of range.
    """

    needs_gradient = False

    def __init__(
        self, score: ScoreName = "CH3-L3p", chains: Sequence[Sequence[str]] | None = None, stop_overlap: float = 0.9
    ) -> None:
        check_score(score)
        if not 0 < stop_overlap <= 1:
            raise SettingError(f"stop_overlap {stop_overlap} is not in (0, 1]: 1 never stops")
        self.score: ScoreName = score
        self.chains = chains
        self.stop_overlap = stop_overlap
        self._checked_chains: Sequence[Sequence[str]] | None = None
        self._stopped: set[str] = set()
        self._kept: Mapping[str, Tensor] = {}
        self._n_grown: dict[str, int] = {}
        self._scores: dict[str, LinkScores] = {}

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that the layers are small enough for scores, and feed each other if they are percolated."""
        for name, layer in layers.items():
            if max(layer.n_out, layer.n_in) ** 2 > LARGEST:
                raise SettingError(
                    f"{name}: Cannistraci-Hebb scores compare all pairs of neurons and all pairs of inputs, and this "
                    f"{layer.n_out} × {layer.n_in} layer has more than {int(LARGEST**0.5)} of one: use another rule"
                )
            if self.score == "CH3-L3p" and (n := _estimate_paths(layer)) > _MANY_PATHS:
                warnings.warn(
                    f"{name}: CH3-L3p sums some {n:.0e} paths in every update, which takes minutes: CH2-L3n takes "
                    "products of matrices instead",
                    stacklevel=2,
                )
        self._checked_chains = self._list_chains(layers)
        for chain in self._checked_chains:
            if isinstance(chain, str) or any(name not in layers for name in chain) or len(set(chain)) < len(chain):
                raise SettingError(
                    f"chains has {chain!r}, which is not a list of different updated layers: {', '.join(layers)}"
                )
            for before, after in pairwise(layers[name] for name in chain):
                if after.n_in % before.n_out:
                    raise SettingError(
                        f"{before.name} has {before.n_out} neurons and does not feed the {after.n_in} inputs of "
                        f"{after.name}: give chains the layers that feed each other, or an empty list"
                    )

    def _list_chains(self, layers: Mapping[str, LayerState]) -> Sequence[Sequence[str]]:
        return [list(layers)] if self.chains is None else self.chains

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to replace; none of a layer whose topology is final."""
        return (0, 0) if layer.name in self._stopped else super().counts(layer, update)

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return connections.weight.abs()

    def after_drop(self, kept: Mapping[str, Tensor], layers: Mapping[str, LayerState]) -> Mapping[str, Tensor]:
        """Percolate, and prepare the scores of the candidates."""
        # An update may have fewer layers than were checked; those around a missing one do not feed each other.
        chains = self._list_chains(layers) if self._checked_chains is None else self._checked_chains
        self._kept = percolate(kept, layers, chains, self._stopped)
        self._n_grown = {name: layers[name].n_active - len(positions) for name, positions in self._kept.items()}
        self._scores = {}
        return self._kept

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Cannistraci-Hebb scores; random numbers below 0 at positions without a path; shape ``(neurons, n_in)``."""
        scores = self.score_links(block)
        noise = torch.rand(scores.shape, generator=generator, dtype=torch.float64).to(scores.device)
        return torch.where(scores > 0, scores, noise - 1)

    def score_links(self, block: Block) -> Tensor:
        """Compute the Cannistraci-Hebb scores of a block, float64, shape ``(neurons, n_in)``."""
        layer = block.layer
        if layer.name not in self._scores:
            links = torch.zeros(layer.n_positions, dtype=torch.float64, device=block.mask.device)
            links[self._kept[layer.name]] = 1
            self._scores = {layer.name: LinkScores(links.view(layer.n_out, layer.n_in), self.score)}
        return self._scores[layer.name].compute(block.neurons)

    def after_update(self, changes: Mapping[str, Change]) -> None:
        """Find the layers whose topology is final from now on."""
        for name, change in changes.items():
            n_grown = self._n_grown[name]
            if n_grown > 0 and 1 - change.grown / n_grown > self.stop_overlap:
                self._stopped.add(name)
        self._kept, self._scores = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Names of the layers whose topology is final."""
        return {"stopped": sorted(self._stopped)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the names of the layers whose topology is final."""
        self._stopped = set(state_dict["stopped"])


def _estimate_paths(layer: LayerState) -> float:
    """Estimate the number of paths of length 3 of a layer with evenly spread connections."""
    return layer.n_initial**3 / layer.n_out / layer.n_in
