"""Cannistraci-Hebb scores of absent connections: how well the paths of length 3 around one stay within its community.

A layer is a bipartite graph of inputs and neurons. A candidate (u, v) joins neuron u and input v. Its paths of length 3
are u – z₁ – z₂ – v: an input z₁ of u, and a neuron z₂ with the inputs z₁ and v. All z₁ and z₂ are the community.
Sources: Zhang et al., 2024 (CHT) and 2026 (arXiv 2501.19107, CHTs).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from psn_lightning.dynamics.views import LayerState
from psn_lightning.errors import SettingError

ScoreName = Literal["CH3-L3p", "CH3-L3n", "CH2-L3n"]

LARGEST = 2**26
"""Largest number of pairs of neurons, or of inputs, whose overlaps are kept: 512 MiB for each of four such tables."""

_DENSE = 0.25  # density above which products of matrices are faster than paths one by one


class LinkScores:
    """Scores of all positions of a layer.

    Args:
        links: Connections of the layer, 0 or 1, float64, shape ``(n_out, n_in)``.
        score: ``CH3-L3p``: sum over paths of 1 / √((1 + e(z₁)) (1 + e(z₂))), where e counts a node's links to nodes
            outside of the community; ``CH3-L3n``: sum over the community's nodes of 1 / (1 + e); ``CH2-L3n``: sum
            over them of (1 + i) / (1 + e), where i counts links inside.

    Raises:
        SettingError: If the score is unknown.
    """

    def __init__(self, links: Tensor, score: ScoreName) -> None:
        check_score(score)
        self.links = links
        self.score = score
        # Number of links that two nodes of one side have in common; the diagonal holds the degrees.
        self._neurons, inputs = links @ links.T, links.T @ links
        self._degrees = self._neurons.diagonal()
        if score == "CH3-L3p":  # the factor of z₁ depends on v, that of z₂ on u; active positions have no score
            self._of_inputs = (inputs.diagonal()[:, None] - inputs).clamp(min=1).rsqrt()
            self._sum_paths = self._choose_sum()
        else:
            self._of_inputs = self._weigh_nodes(inputs, inputs.diagonal())

    def compute(self, neurons: slice) -> Tensor:
        """Compute the scores of a block of neurons, shape ``(neurons, n_in)``; at active positions undefined."""
        overlaps = self._neurons[neurons]
        if self.score == "CH3-L3p":
            return self._sum_paths(neurons.start, (self._degrees - overlaps).clamp(min=1).rsqrt())
        return self._weigh_nodes(overlaps, self._degrees) @ self.links + self.links[neurons] @ self._of_inputs.T

    def _weigh_nodes(self, overlaps: Tensor, degrees: Tensor) -> Tensor:
        """Weigh node z as part of the community of node u, at [u, z]; 0 where they share no link."""
        internal = overlaps + 1 if self.score == "CH2-L3n" else torch.ones_like(overlaps)
        return torch.where(overlaps > 0, internal / (degrees - overlaps).clamp(min=1), 0.0)

    def _choose_sum(self) -> Callable[[int, Tensor], Tensor]:
        """Return the function of the first neuron and the factors of z₂ that sums the paths of a block."""
        if find_spec("numba") is None or self.links.mean() > _DENSE:
            return lambda first, factors: sum_paths_densely(self.links, first, factors, self._of_inputs)
        from psn_lightning.kernels.paths import PathSums

        sums = PathSums(self.links.cpu().numpy(), self._of_inputs.cpu().numpy())
        device = self.links.device
        return lambda first, factors: torch.from_numpy(sums.compute(first, factors.cpu().numpy())).to(device)


def check_score(score: str) -> None:
    """Check the name of a score.

    Raises:
        SettingError: If it is unknown.
    """
    if score not in get_args(ScoreName):
        raise SettingError(f"score {score!r} is not one of {', '.join(get_args(ScoreName))}")


def sum_paths_densely(links: Tensor, first: int, of_neurons: Tensor, of_inputs: Tensor) -> Tensor:
    """Sum the weights of paths by products of matrices, see :class:`psn_lightning.kernels.paths.PathSums`."""
    rows = [links[:0]]
    for own, factor in zip(links[first : first + len(of_neurons)], of_neurons, strict=True):
        inputs = own.nonzero().squeeze(1)
        rows.append((factor[:, None] * links * (links[:, inputs] @ of_inputs[inputs])).sum(dim=0, keepdim=True))
    return torch.cat(rows)


def percolate(
    kept: Mapping[str, Tensor],
    layers: Mapping[str, LayerState],
    chains: Sequence[Sequence[str]],
    fixed: Collection[str] = (),
) -> dict[str, Tensor]:
    """Remove connections of hidden neurons that have connections on one side only, until there are none.

    One sweep from the last to the first layer of a chain, and one back, reach the fixed point: the first removes inputs
    of neurons without outputs only, the second outputs of neurons without inputs only.

    Args:
        kept: Flat positions by layer name, ascending.
        layers: Sizes of the layers by name.
        chains: Names of layers that feed each other, first to last. ``n_in`` is a multiple of the ``n_out`` before it:
            of a convolution it counts the positions of each channel's kernel. Where a layer is not in ``kept``, the
            neurons on its sides count as connected.
        fixed: Names of layers that lose no connection.

    Returns:
        Flat positions that remain, ascending, by layer name.
    """
    kept = dict(kept)
    for chain in chains:
        pairs = [(layers[a], layers[b]) for a, b in pairwise(chain) if a in kept and b in kept]
        for layer, following in reversed(pairs):
            if layer.name not in fixed:
                feeds = _mark(_find_sources(kept[following.name], following, layer), layer.n_out)
                kept[layer.name] = kept[layer.name][feeds[kept[layer.name] // layer.n_in]]
        for layer, following in pairs:
            if following.name not in fixed:
                is_fed = _mark(kept[layer.name] // layer.n_in, layer.n_out)
                sources = _find_sources(kept[following.name], following, layer)
                kept[following.name] = kept[following.name][is_fed[sources]]
    return kept


def _find_sources(positions: Tensor, layer: LayerState, before: LayerState) -> Tensor:
    """Find the neuron of the layer before that each connection comes from."""
    return positions % layer.n_in // (layer.n_in // before.n_out)


def _mark(indices: Tensor, size: int) -> Tensor:
    marks = torch.zeros(size, dtype=torch.bool, device=indices.device)
    marks[indices] = True
    return marks
