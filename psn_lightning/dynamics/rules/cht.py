"""Cannistraci-Hebb training: grows where the paths of length 3 say that a link is missing. No gradient is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.cannistraci_hebb import LARGEST, LinkScores, ScoreName, percolate
from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Update
from psn_lightning.errors import SettingError


class CHTRule(Rule):
    """CHT: drop the smallest |weight|, percolate, grow the highest Cannistraci-Hebb scores (Zhang et al., 2024).

    Source: Epitopological learning and Cannistraci-Hebb network shape intelligence, ICLR 2024. Percolation removes the
    connections of neurons that nothing feeds or that feed nothing; growth makes up for them. A layer's topology is
    final once more than ``stop_overlap`` of the connections it grows are those that it has just dropped. Where fewer
    candidates have a score above 0 than are to be grown, the rest is drawn at random.

    Args:
        score: Score of a candidate, see :class:`~psn_lightning.dynamics.rules.cannistraci_hebb.LinkScores`.
        chain: Names of the layers that feed each other directly, first to last, for percolation; an empty list
            switches percolation off. All updated layers in their order by default.
        stop_overlap: Overlap above which a layer's topology is final, in (0, 1]; 1 never.

    Raises:
        SettingError: If an argument is out of range.
    """

    needs_gradient = False

    def __init__(
        self, score: ScoreName = "CH3-L3p", chain: Sequence[str] | None = None, stop_overlap: float = 0.9
    ) -> None:
        if score not in get_args(ScoreName):
            raise SettingError(f"score {score!r} is not one of {', '.join(get_args(ScoreName))}")
        if not 0 < stop_overlap <= 1:
            raise SettingError(f"stop_overlap {stop_overlap} is not in (0, 1]: 1 never stops")
        self.score: ScoreName = score
        self.chain = None if chain is None else list(chain)
        self.stop_overlap = stop_overlap
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
        for name in self.chain or ():
            if name not in layers:
                raise SettingError(f"chain names {name!r}, which is not an updated layer: {', '.join(layers)}")
        shapes = self._list_chain(layers)
        for (name, n_out, _), (following, _, n_in) in pairwise(shapes):
            if n_in % n_out:
                raise SettingError(
                    f"{name} has {n_out} neurons and does not feed the {n_in} inputs of {following}: give chain the "
                    "names of the layers that feed each other, or an empty list"
                )

    def _list_chain(self, layers: Mapping[str, LayerState]) -> list[tuple[str, int, int]]:
        names = layers if self.chain is None else self.chain
        return [(name, layers[name].n_out, layers[name].n_in) for name in names if name in layers]

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to replace; none of a layer whose topology is final."""
        return (0, 0) if layer.name in self._stopped else super().counts(layer, update)

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return connections.weight.abs()

    def after_drop(self, kept: Mapping[str, Tensor], layers: Mapping[str, LayerState]) -> Mapping[str, Tensor]:
        """Percolate, and prepare the scores of the candidates."""
        percolated = percolate(dict(kept), self._list_chain(layers))
        self._kept = {n: kept[n] if n in self._stopped else percolated[n] for n in kept}
        self._n_grown = {name: layers[name].n_active - len(positions) for name, positions in self._kept.items()}
        self._scores = {}
        return self._kept

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Cannistraci-Hebb scores, below 0 and random where there is no path, shape ``(neurons, n_in)``."""
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
