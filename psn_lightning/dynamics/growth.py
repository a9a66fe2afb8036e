"""Growth: connections of a layer after an update, chosen among all that are absent, or among some that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from psn_lightning.dynamics.blocks import blocks_of_neurons
from psn_lightning.dynamics.rules import Rule, StructuredRule
from psn_lightning.dynamics.selection import RunningTop, select_top, select_top_per_row
from psn_lightning.dynamics.views import Block, LayerState, Pool, Sample
from psn_lightning.nn.layer import SparseLayer


@dataclass(frozen=True)
class Candidates:
    """Candidates for growth in a layer: no tensor here has the size of the dense weight.

    Args:
        layer: Sizes of the layer.
        rule: Rule that scores the candidates.
        generator: Random generator, in the same state on every process.
        source: Layer that has the gradients.
        blocks: Function from a block of neurons to the dense gradient that is scored instead of the layer's, shape
            ``(neurons, n_in)``; None scores the layer's.
    """

    layer: LayerState
    rule: Rule
    generator: torch.Generator
    source: SparseLayer
    blocks: Callable[[slice], Tensor] | None = None

    def get_gradient(self, neurons: slice) -> Tensor:
        """Return the dense gradient of a block of neurons."""
        return self.blocks(neurons) if self.blocks else self.source.dense_gradient(neurons)

    def get_gradient_at(self, positions: Tensor) -> Tensor:
        """Return the gradient to flat positions, ascending."""
        if self.blocks is None:
            return self.source.gradient_at(positions)
        parts = blocks_of_neurons(positions, self.layer.n_out, self.layer.n_in)
        return torch.cat([self.blocks(neurons).flatten()[own] for neurons, own in parts])

    def iterate_blocks(self, taken: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Iterate over blocks of neurons.

        Args:
            taken: Flat positions that are no candidates, ascending.

        Yields:
            First neuron of the block; mask of the taken positions; growth scores; both of shape ``(neurons, n_in)``.
        """
        n_in = self.layer.n_in
        for neurons, own in blocks_of_neurons(taken, self.layer.n_out, n_in):
            mask = torch.zeros(neurons.stop - neurons.start, n_in, dtype=torch.bool, device=taken.device)
            mask.view(-1)[own] = True
            gradient = self.get_gradient(neurons) if self.rule.needs_gradient else None
            block = Block(self.layer, neurons.start, mask, gradient)
            yield neurons.start, mask, self.rule.grow_scores(block, self.generator)

    def select_best(self, taken: Tensor, count: int) -> Tensor:
        """Select the ``count`` positions with the highest scores, except those in ``taken``.

        They are chosen in the whole layer, or among the candidates that the rule draws; these may be fewer.
        """
        if count == 0:
            return taken[:0]
        n_drawn = self.rule.count_candidates(self.layer)
        if n_drawn is not None and max(n_drawn, count) < self.layer.n_positions - len(taken):
            return self._select_drawn(taken, max(n_drawn, count), count)
        if count == self.layer.n_positions - len(taken):  # all of them, whatever their scores
            absent = torch.ones(self.layer.n_positions, dtype=torch.bool, device=taken.device)
            absent[taken] = False
            return absent.nonzero().squeeze(1)
        best = RunningTop(count)
        for first, mask, scores in self.iterate_blocks(taken):
            best.add(scores, ~mask, first * self.layer.n_in)
        return best.positions()

    def _select_drawn(self, taken: Tensor, n_drawn: int, count: int) -> Tensor:
        """Select ``count`` positions among ``n_drawn`` candidates; all of them if the rule has drawn fewer."""
        pool = Pool(self.layer, taken, self.source.activity)
        positions = self.rule.draw_candidates(pool, n_drawn, self.generator)
        if len(positions) <= count:
            return positions
        gradient = self.get_gradient_at(positions) if self.rule.needs_gradient else None
        sample = Sample(self.layer, positions, gradient)
        return positions[select_top(self.rule.sample_scores(sample, self.generator), count)]

    def grow_to_fan_in(self, rule: StructuredRule, before: Tensor, scores: Tensor, kept: Tensor, count: int) -> Tensor:
        """Compute the active positions after an update by a rule that prescribes the fan-in of every neuron.

        Args:
            rule: Rule that prescribes the fan-in.
            before: Flat positions before the update, ascending.
            scores: Drop scores of these connections.
            kept: Flat positions that an unstructured update would keep, ascending.
            count: Number of connections that an unstructured update would grow.

        Returns:
            Flat positions, ascending.
        """
        n_in, size = self.layer.n_in, rule.group_size(self.layer)
        n_groups = self.layer.n_positions // size

        def count_salient() -> Tensor:
            unstructured = torch.cat([kept, self.select_best(kept, count)])
            return torch.bincount(unstructured // size, minlength=n_groups)

        target = rule.fan_in(count_salient, self.layer).to(before.device)
        # Connections of ablated neurons are dropped first, so that the other neurons lose fewer.
        stays = target[before // size] > 0
        scores = scores.masked_fill(~stays, -torch.inf)
        survivors = torch.zeros(len(before), dtype=torch.bool, device=before.device)
        survivors[select_top(scores, len(kept))] = True
        survivors &= stays
        index = survivors.nonzero().squeeze(1)
        kept = before[index[_select_first_of_each(before[index] // size, scores[index], target)]]
        parts = []
        for first, block_mask, block_scores in self.iterate_blocks(kept):
            mask, start = block_mask.view(-1, size), first * n_in // size
            missing = target[start : start + len(mask)] - mask.sum(dim=1)
            chosen = mask | select_top_per_row(block_scores.reshape(-1, size), ~mask, missing)
            parts.append(chosen.flatten().nonzero().squeeze(1) + first * n_in)
        return torch.cat(parts)


def _select_first_of_each(group: Tensor, scores: Tensor, limit: Tensor) -> Tensor:
    """Return the indices of each group's connections with the highest scores, at most ``limit[group]``."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]  # by group, best first
    count = torch.bincount(group, minlength=len(limit))
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[group[order]]
    return order[rank < limit[group[order]]].sort().values
