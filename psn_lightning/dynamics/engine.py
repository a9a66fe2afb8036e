"""The engine: applies any rule to any layer, with exact counts, and moves the optimizer state along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.dynamics.rules import LayerState, Rule, StructuredRule
from psn_lightning.dynamics.selection import RunningTop, ascending, top, top_per_row
from psn_lightning.nn import SparseLinear
from psn_lightning.nn.sparse_linear import blocks_of_neurons


@dataclass(frozen=True)
class Change:
    """What an update did to a layer."""

    dropped: int
    """Connections that are gone."""
    grown: int
    """Connections that are new."""
    contested: float
    """Share of the connections that stood for replacement; those that grew back at once are in it."""


@torch.no_grad()
def update_layer(
    layer: SparseLinear,
    rule: Rule,
    fraction: float,
    optimizer: Optimizer | None,
    generator: torch.Generator,
    name: str = "layer",
    n_initial: int | None = None,
) -> Change:
    """Drop connections of a layer and grow others.

    Connections that stay, or are dropped and grow back at once, keep weight and moments; new ones start
    with both at 0. The counts are the rule's, exactly. Growth is scored in blocks of neurons: nothing here
    is as large as the dense weight.

    Args:
        layer: The layer, with its dense gradient recorded where the rule needs it.
        rule: How connections are scored.
        fraction: What the schedule says, in [0, 1].
        optimizer: Whose moments move with the weights.
        generator: Source of randomness, in the same state on every process.
        name: Name of the layer, for messages.
        n_initial: Connections at the start of the run; None: those of now.
    """
    before, weight = layer.active_positions(), layer.active_values()
    n_initial = len(before) if n_initial is None else n_initial
    state = LayerState(name, layer.out_features, layer.in_features, len(before), n_initial)
    n_drop, n_grow = rule.counts(fraction, state)
    if n_drop == n_grow == 0 and not isinstance(rule, StructuredRule):
        return Change(0, 0, 0.0)
    scores = rule.drop_scores(weight, before // state.n_in)
    kept = before[top(scores, len(before) - n_drop)]
    if isinstance(rule, StructuredRule):
        after = _structured(layer, rule, state, before, scores, kept, n_grow, generator)
    else:
        after = torch.cat([kept, _grown(layer, rule, kept, n_grow, generator)])
    after = ascending(after)
    stayed = layer.set_active(after, moments_of(layer, optimizer))
    return Change(len(before) - stayed, len(after) - stayed, n_grow / max(1, len(before)))


def moments_of(layer: SparseLinear, optimizer: Optimizer | None) -> list[Tensor]:
    """The optimizer's tensors that are laid out like the layer's weight (not its step counter)."""
    state = {} if optimizer is None else optimizer.state.get(layer.weight, {})
    return [value for value in state.values() if isinstance(value, Tensor) and value.shape == layer.weight.shape]


def _grown(layer: SparseLinear, rule: Rule, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The ``count`` best positions of the whole layer outside ``kept``."""
    best = RunningTop(count)
    if count:
        for first, mask, scores in _scored_blocks(layer, rule, kept, generator):
            best.add(scores, ~mask, first * layer.in_features)
    return best.positions() if count else kept[:0]


def _structured(
    layer: SparseLinear,
    rule: StructuredRule,
    state: LayerState,
    before: Tensor,
    scores: Tensor,
    kept: Tensor,
    n_grow: int,
    generator: torch.Generator,
) -> Tensor:
    """Positions after an update with a prescribed fan-in."""
    n_in = state.n_in
    unstructured = torch.cat([kept, _grown(layer, rule, kept, n_grow, generator)])
    target = rule.fan_in(torch.bincount(unstructured // n_in, minlength=state.n_out), state)
    # Those of removed neurons are dropped first, so that the others lose less.
    stays = target[before // n_in] > 0
    scores = scores.masked_fill(~stays, -torch.inf)
    survivors = torch.zeros(len(before), dtype=torch.bool, device=before.device)
    survivors[top(scores, len(kept))] = True
    survivors &= stays
    survivors = survivors.nonzero().squeeze(1)
    kept = before[survivors[_first_of_each(before[survivors] // n_in, scores[survivors], target)]]
    parts = []
    for first, mask, block_scores in _scored_blocks(layer, rule, kept, generator):
        missing = target[first : first + len(mask)] - mask.sum(dim=1)
        chosen = mask | top_per_row(block_scores, ~mask, missing)
        parts.append(chosen.flatten().nonzero().squeeze(1) + first * n_in)
    return torch.cat(parts)


def _first_of_each(neuron: Tensor, scores: Tensor, limit: Tensor) -> Tensor:
    """Index of each neuron's best connections, ``limit[neuron]`` at most."""
    order = scores.argsort(descending=True, stable=True)
    order = order[neuron[order].argsort(stable=True)]  # by neuron, best first
    count = torch.bincount(neuron, minlength=len(limit))
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[neuron[order]]
    return order[rank < limit[neuron[order]]].sort().values


def _scored_blocks(
    layer: SparseLinear, rule: Rule, kept: Tensor, generator: torch.Generator
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Blocks of neurons: number of the first, mask of what was kept, scores for growth."""
    n_in = layer.in_features
    for block, own in blocks_of_neurons(kept, layer.out_features, n_in):
        mask = torch.zeros(block.stop - block.start, n_in, dtype=torch.bool, device=kept.device)
        mask.view(-1)[own] = True
        gradient = layer.dense_gradient(block) if rule.needs_gradient else mask
        yield block.start, mask, rule.grow_scores(gradient, mask, generator)
