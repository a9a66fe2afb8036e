"""The engine: applies any rule to any layer, with exact counts, and moves the optimizer state along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.dynamics.rules import LayerState, Rule, StructuredRule
from psn_lightning.dynamics.selection import RunningTop, ascending, top, top_per_row
from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer, blocks_of_neurons


@dataclass(frozen=True)
class Change:
    """What an update did to a layer."""

    dropped: int
    """Connections that are gone."""
    grown: int
    """Connections that are new."""
    contested: float
    """Share of the connections that stood for replacement; those that grew back at once are in it."""


@dataclass(frozen=True)
class Growth:
    """Scores of a layer's candidates, block by block: nothing here is as large as the dense weight.

    Args:
        layer: The layer.
        rule: How they are scored.
        generator: Source of randomness, in the same state on every process.
        gradient: Dense gradient of a block of neurons, shape ``(neurons, n_in)``.
    """

    layer: SparseLayer
    rule: Rule
    generator: torch.Generator
    gradient: Callable[[slice], Tensor]

    def blocks(self, taken: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Blocks of neurons: number of the first, mask of what is taken, scores."""
        n_in = self.layer.n_in
        for block, own in blocks_of_neurons(taken, self.layer.n_out, n_in):
            mask = torch.zeros(block.stop - block.start, n_in, dtype=torch.bool, device=taken.device)
            mask.view(-1)[own] = True
            gradient = self.gradient(block) if self.rule.needs_gradient else mask
            yield block.start, mask, self.rule.grow_scores(gradient, mask, self.generator)

    def best(self, taken: Tensor, count: int) -> Tensor:
        """The ``count`` best positions of the whole layer outside ``taken``."""
        if count == 0:
            return taken[:0]
        best = RunningTop(count)
        for first, mask, scores in self.blocks(taken):
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

    Connections that stay, or are dropped and grow back at once, keep weight and moments; new ones start
    with both at 0. The counts are the rule's, exactly.

    Args:
        layer: The layer, with its dense gradient recorded where the rule needs it.
        rule: How connections are scored.
        fraction: What the schedule says, in [0, 1].
        optimizer: Whose moments move with the weights.
        generator: Source of randomness, in the same state on every process.
        name: Name of the layer, for messages.
        n_initial: Connections at the start of the run; None: those of now.
        gradient: What growth looks at instead of the layer's recorded gradient: a function from a block of neurons to
            ``(neurons, n_in)``.

    Raises:
        SettingError: If no connection would be left; the layer is as it was.
    """
    before, weight = layer.active_positions(), layer.active_values()
    n_initial = len(before) if n_initial is None else n_initial
    state = LayerState(name, layer.n_out, layer.n_in, len(before), n_initial)
    n_drop, n_grow = rule.counts(fraction, state)
    if n_drop == n_grow == 0 and not isinstance(rule, StructuredRule):
        return Change(0, 0, 0.0)
    scores = rule.drop_scores(weight, before // state.n_in)
    kept = before[top(scores, len(before) - n_drop)]
    growth = Growth(layer, rule, generator, gradient or layer.dense_gradient)
    if isinstance(rule, StructuredRule):
        after = _structured(growth, rule, state, before, scores, kept, n_grow)
    else:
        after = torch.cat([kept, growth.best(kept if rule.may_return else before, n_grow)])
    if len(after) == 0:
        raise SettingError(
            f"{name}: this update would leave none of its {len(before)} connections (of {state.n_out} × {state.n_in} "
            f"possible), and a layer without any is dead; lower the sparsity, or widen the layer"
        )
    after = ascending(after)
    stayed = layer.set_active(after, moments_of(layer, optimizer))
    return Change(len(before) - stayed, len(after) - stayed, n_grow / max(1, len(before)))


def moments_of(layer: SparseLayer, optimizer: Optimizer | None) -> list[Tensor]:
    """The optimizer's tensors that are laid out like the layer's weight.

    Scalars (a step counter) and tensors that broadcast over the weight (Adafactor's row and column variances) belong to
    no single connection, and stay as they are.

    Raises:
        SettingError: If the optimizer keeps anything else: nobody knows to which connections it belongs.
    """
    shape = layer.parameter.shape
    state = {} if optimizer is None else optimizer.state.get(layer.parameter, {})
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.dim() > 0}
    for key, value in tensors.items():
        if value.dim() > len(shape) or any(
            a not in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False)
        ):
            raise SettingError(
                f"{type(optimizer).__name__} keeps {key} of shape {tuple(value.shape)} for a weight of shape "
                f"{tuple(shape)}: it cannot be moved with the connections. Adam, AdamW, SGD and Adafactor work"
            )
    return [value for value in tensors.values() if value.shape == shape]


def _structured(
    growth: Growth,
    rule: StructuredRule,
    state: LayerState,
    before: Tensor,
    scores: Tensor,
    kept: Tensor,
    n_grow: int,
) -> Tensor:
    """Positions after an update with a prescribed fan-in."""
    n_in = state.n_in
    unstructured = torch.cat([kept, growth.best(kept, n_grow)])
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
    for first, mask, block_scores in growth.blocks(kept):
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
