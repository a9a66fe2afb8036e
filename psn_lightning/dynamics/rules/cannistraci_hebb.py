"""Cannistraci-Hebb scores of absent connections: how well the paths of length 3 around one stay within its community.

A layer is a bipartite graph of inputs and neurons. A candidate (u, v) joins neuron u and input v. Its paths of length 3
are u – z₁ – z₂ – v: an input z₁ of u, and a neuron z₂ with the inputs z₁ and v. All z₁ and z₂ are the community.
Sources: Zhang et al., 2024 (CHT) and 2026 (arXiv 2501.19107, CHTs).
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from psn_lightning.errors import SettingError

ScoreName = Literal["CH3-L3p", "CH3-L3n", "CH2-L3n"]

LARGEST = 2**26
"""Largest number of pairs of neurons, or of inputs, whose overlaps are kept: 512 MiB."""


class LinkScores:
    """Scores of all positions of a layer.

    Args:
        links: Connections of the layer, 0 or 1, float64, shape ``(n_out, n_in)``.
        score: ``CH3-L3p``: sum over paths of 1 / √((1 + e(z₁)) (1 + e(z₂))), where e counts a node's links to nodes
            outside of the community; ``CH3-L3n``: sum over the community's nodes of 1 / (1 + e); ``CH2-L3n``: sum
            over them of (1 + i) / (1 + e), where i counts links inside.
    """

    def __init__(self, links: Tensor, score: ScoreName) -> None:
        if score not in get_args(ScoreName):
            raise SettingError(f"score {score!r} is not one of {', '.join(get_args(ScoreName))}")
        self.links = links
        self.score = score
        # Number of links that two nodes of one side have in common; the diagonal holds the degrees.
        self._neurons, self._inputs = links @ links.T, links.T @ links

    def compute(self, neurons: slice) -> Tensor:
        """Compute the scores of a block of neurons, shape ``(neurons, n_in)``; at active positions undefined."""
        return self._score_paths(neurons) if self.score == "CH3-L3p" else self._score_nodes(neurons)

    def _score_nodes(self, neurons: slice) -> Tensor:
        of_neurons = self._weigh_nodes(self._neurons)[neurons]
        return of_neurons @ self.links + self.links[neurons] @ self._weigh_nodes(self._inputs).T

    def _weigh_nodes(self, overlaps: Tensor) -> Tensor:
        """Weigh node z as part of the community of node u, at [u, z]; 0 where they share no link."""
        internal = overlaps + 1 if self.score == "CH2-L3n" else torch.ones_like(overlaps)
        return torch.where(overlaps > 0, internal / (overlaps.diagonal() - overlaps).clamp(min=1), 0.0)

    def _score_paths(self, neurons: slice) -> Tensor:
        # The factor of z₁ depends on v, that of z₂ on u. Active positions have 0 in the denominator, and no score.
        of_inputs = (self._inputs.diagonal()[:, None] - self._inputs).clamp(min=1).rsqrt()
        of_neurons = (self._neurons.diagonal() - self._neurons[neurons]).clamp(min=1).rsqrt()
        if find_spec("numba") is None:
            return sum_paths_densely(self.links, neurons.start, of_neurons, of_inputs)
        from psn_lightning.kernels.paths import sum_paths

        links = self.links.cpu().numpy()
        sums = sum_paths(links, neurons.start, of_neurons.cpu().numpy(), of_inputs.cpu().numpy())
        return torch.from_numpy(sums).to(self.links.device)


def sum_paths_densely(links: Tensor, first: int, of_neurons: Tensor, of_inputs: Tensor) -> Tensor:
    """Sum the weights of paths as :func:`psn_lightning.kernels.paths.sum_paths`, without numba but much slower."""
    rows = []
    for own, factor in zip(links[first : first + len(of_neurons)], of_neurons, strict=True):
        inputs = own.nonzero().squeeze(1)
        rows.append((factor[:, None] * links * (links[:, inputs] @ of_inputs[inputs])).sum(dim=0))
    return torch.stack(rows)


def percolate(kept: dict[str, Tensor], shapes: list[tuple[str, int, int]]) -> dict[str, Tensor]:
    """Remove connections of hidden neurons that have connections on one side only, until there are none.

    One sweep from the last to the first layer, and one back, reach the fixed point: the first removes inputs of neurons
    without outputs only, the second outputs of neurons without inputs only.

    Args:
        kept: Flat positions by layer name, ascending.
        shapes: Name, ``n_out`` and ``n_in`` of layers that feed each other, first to last. ``n_in`` is a multiple of
            the ``n_out`` before it: of a convolution it counts the positions of each channel's kernel.

    Returns:
        Flat positions that remain, ascending, by layer name.
    """
    kept = dict(kept)
    pairs = [(a, b) for a, b in pairwise(shapes) if a[0] in kept and b[0] in kept]
    for (name, n_out, n_in), (following, _, n_following) in reversed(pairs):
        feeds = _mark(kept[following] % n_following // (n_following // n_out), n_out)
        kept[name] = kept[name][feeds[kept[name] // n_in]]
    for (name, n_out, n_in), (following, _, n_following) in pairs:
        is_fed = _mark(kept[name] // n_in, n_out)
        kept[following] = kept[following][is_fed[kept[following] % n_following // (n_following // n_out)]]
    return kept


def _mark(indices: Tensor, size: int) -> Tensor:
    marks = torch.zeros(size, dtype=torch.bool, device=indices.device)
    marks[indices] = True
    return marks
