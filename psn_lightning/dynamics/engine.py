"""Update of one layer by any rule: exact connection counts, and optimizer state that moves with the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.dynamics.rules import LayerState, Rule, StructuredRule
from psn_lightning.dynamics.selection import RunningTop, select_top, select_top_per_row, sort_ascending
from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer, blocks_of_neurons


@dataclass(frozen=True)
class Change:
    """Result of an update of one layer."""

    dropped: int
    """Number of connections that were active before the update and are absent now."""
    grown: int
    """Number of connections that were absent before the update and are active now."""
    contested: float
    """Connections dropped by the rule over connections before; includes those that grew back in the same update."""


@dataclass(frozen=True)
class CandidateScores:
    """Growth scores of a layer, computed block by block: no tensor here has the size of the dense weight.

    Args:
        layer: Layer that is updated.
        rule: Rule that scores the candidates.
        generator: Random generator, in the same state on every process.
        gradient: Function from a block of neurons to their dense gradient, shape ``(neurons, n_in)``.
    """

    layer: SparseLayer
    rule: Rule
    generator: torch.Generator
    gradient: Callable[[slice], Tensor]

    def iterate_blocks(self, taken: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Iterate over blocks of neurons.

        Args:
            taken: Flat positions that are active, ascending.

        Yields:
            First neuron of the block; mask of the taken positions; growth scores; both of shape ``(neurons, n_in)``.
        """
        n_in = self.layer.n_in
        for block, own in blocks_of_neurons(taken, self.layer.n_out, n_in):
            mask = torch.zeros(block.stop - block.start, n_in, dtype=torch.bool, device=taken.device)
            mask.view(-1)[own] = True
            gradient = self.gradient(block) if self.rule.needs_gradient else mask
            yield block.start, mask, self.rule.grow_scores(gradient, mask, self.generator)

    def select_best(self, taken: Tensor, count: int) -> Tensor:
        """Select the ``count`` positions with the highest scores in the whole layer, except those in ``taken``."""
        if count == 0:
            return taken[:0]
        best = RunningTop(count)
        for first, mask, scores in self.iterate_blocks(taken):
            best.add(scores, ~mask, first * self.layer.n_in)
        return best.positions()


@torch.no_grad()
def update_layer(
    layer: SparseLayer,
    rule: Rule,
    fraction: float,
    optimizer: Optimizer | None,
    generator: torch.Generator,
    name: str = "layer",
    n_initial: int | None = None,
    gradient: Callable[[slice], Tensor] | None = None,
) -> Change:
    """Drop connections of a layer and grow others.

    Connections that stay active, or are dropped and grow back in the same update, keep weight and moments; grown
    connections start with 0 for both. Exactly as many connections are dropped and grown as the rule asks for.

    Args:
        layer: Layer to update, with its dense gradient recorded if the rule needs it.
        rule: Rule that scores the connections.
        fraction: Fraction from the schedule, in [0, 1]; most rules drop this share of the connections.
        optimizer: Optimizer whose moments move with the weights; None if there is none.
        generator: Random generator, in the same state on every process.
        name: Name of the layer in messages.
        n_initial: Number of connections at the start of the run; the present number by default.
        gradient: Function from a block of neurons to the gradient ``(neurons, n_in)`` that growth scores are computed
            from; :meth:`SparseLayer.dense_gradient` by default.

    Returns:
        Numbers of dropped and grown connections.

    Raises:
        SettingError: If no connection would be left; the layer is then unchanged.
    """
    before, weight = layer.active_positions(), layer.active_values()
    n_initial = len(before) if n_initial is None else n_initial
    state = LayerState(name, layer.n_out, layer.n_in, len(before), n_initial)
    n_drop, n_grow = rule.counts(fraction, state)
    if n_drop == n_grow == 0 and not isinstance(rule, StructuredRule):
        return Change(0, 0, 0.0)
    scores = rule.drop_scores(weight, before // state.n_in)
    kept = before[select_top(scores, len(before) - n_drop)]
    candidates = CandidateScores(layer, rule, generator, gradient or layer.dense_gradient)
    if isinstance(rule, StructuredRule):
        after = _update_structured(candidates, rule, state, before, scores, kept, n_grow)
    else:
        after = torch.cat([kept, candidates.select_best(kept if rule.may_return else before, n_grow)])
    if len(after) == 0:
        raise SettingError(
            f"{name}: the update would drop all {len(before)} connections of this {state.n_out} × {state.n_in} layer "
            "and grow none: lower the sparsity or widen the layer"
        )
    after = sort_ascending(after)
    stayed = layer.set_active(after, moments_of(layer, optimizer))
    return Change(len(before) - stayed, len(after) - stayed, n_grow / max(1, len(before)))


def moments_of(layer: SparseLayer, optimizer: Optimizer | None) -> list[Tensor]:
    """Return the optimizer's tensors that have the shape of the layer's parameter, such as Adam's two moments.

    Scalars (a step counter) and tensors that broadcast over the parameter (row and column variances of Adafactor)
    belong to no single connection; they are left out.

    Args:
        layer: Sparse layer.
        optimizer: Optimizer that holds the layer's parameter; None if there is none.

    Returns:
        State tensors in the layout of :attr:`SparseLayer.parameter`; empty before the first optimizer step.

    Raises:
        SettingError: If a state tensor has another shape, so that its elements cannot be assigned to connections.
    """
    shape = layer.parameter.shape
    state = {} if optimizer is None else optimizer.state.get(layer.parameter, {})
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.dim() > 0}
    for key, value in tensors.items():
        if value.dim() > len(shape) or any(
            a not in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False)
        ):
            raise SettingError(
                f"{type(optimizer).__name__} keeps state {key!r} of shape {tuple(value.shape)} for a weight of shape "
                f"{tuple(shape)}, which cannot move with the connections: use Adam, AdamW, SGD or Adafactor"
            )
    return [value for value in tensors.values() if value.shape == shape]


def _update_structured(
    candidates: CandidateScores,
    rule: StructuredRule,
    state: LayerState,
    before: Tensor,
    scores: Tensor,
    kept: Tensor,
    n_grow: int,
) -> Tensor:
    """Return the active positions after an update by a rule that prescribes the fan-in."""
    n_in = state.n_in
    unstructured = torch.cat([kept, candidates.select_best(kept, n_grow)])
    target = rule.fan_in(torch.bincount(unstructured // n_in, minlength=state.n_out), state)
    # Connections of ablated neurons are dropped first, so that the other neurons lose fewer.
    stays = target[before // n_in] > 0
    scores = scores.masked_fill(~stays, -torch.inf)
    survivors = torch.zeros(len(before), dtype=torch.bool, device=before.device)
    survivors[select_top(scores, len(kept))] = True
    survivors &= stays
    survivors = survivors.nonzero().squeeze(1)
    kept = before[survivors[_select_first_of_each(before[survivors] // n_in, scores[survivors], target)]]
    parts = []
    for first, mask, block_scores in candidates.iterate_blocks(kept):
        missing = target[first : first + len(mask)] - mask.sum(dim=1)
        chosen = mask | select_top_per_row(block_scores, ~mask, missing)
        parts.append(chosen.flatten().nonzero().squeeze(1) + first * n_in)
    return torch.cat(parts)


def _select_first_of_each(neuron: Tensor, scores: Tensor, limit: Tensor) -> Tensor:
    """Return the indices of each neuron's connections with the highest scores, at most ``limit[neuron]``."""
    order = scores.argsort(descending=True, stable=True)
    order = order[neuron[order].argsort(stable=True)]  # by neuron, best first
    count = torch.bincount(neuron, minlength=len(limit))
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[neuron[order]]
    return order[rank < limit[neuron[order]]].sort().values
