"""Update of a network by any rule: exact connection counts, and optimizer state that moves with the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.dynamics.growth import Candidates
from psn_lightning.dynamics.rules import Rule, StructuredRule
from psn_lightning.dynamics.selection import select_top, sort_ascending
from psn_lightning.dynamics.views import Change, Connections, LayerState, Update
from psn_lightning.errors import SettingError
from psn_lightning.nn.group_view import GroupView
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.pair_view import at_group_grain

GradientOf = Callable[[str, SparseLayer], Callable[[slice], Tensor] | None]
"""Function from a layer's name and the layer to the function that gives the gradient of a block of neurons; None for
:meth:`SparseLayer.dense_gradient`."""


@torch.no_grad()
def update_network(
    layers: Mapping[str, SparseLayer],
    rule: Rule,
    update: Update,
    optimizer: Optimizer | None,
    generator: torch.Generator,
    n_initial: Mapping[str, int] | None = None,
    gradient_of: GradientOf | None = None,
) -> dict[str, Change]:
    """Drop connections in all layers, then grow others in all layers.

    Where neurons share their inputs in groups, pairs of a group and an input are dropped and grown instead, see
    :class:`~psn_lightning.nn.group_view.GroupView`: the rule sees one neuron for each group.

    Connections that stay active, or are dropped and grow back in the same update, keep weight and moments; grown
    connections start with the rule's first weight, 0 by default, and moments 0. A layer has as many connections
    afterwards as the rule asks for, to the last one.

    Args:
        layers: Layers to update by name, with their dense gradient recorded if the rule needs it.
        rule: Rule that scores the connections.
        update: Size and time of the update.
        optimizer: Optimizer whose moments move with the weights; None if there is none.
        generator: Random generator, in the same state on every process.
        n_initial: Numbers of connections, or pairs, at the start of the run; the present numbers by default.
        gradient_of: Source of the gradients that growth scores are computed from;
            :meth:`SparseLayer.dense_gradient` by default.

    Returns:
        Changes by layer name.

    Raises:
        SettingError: If no connection would be left in a layer; the network is then unchanged.
    """
    layers = {name: at_group_grain(layer) for name, layer in layers.items()}
    before = {name: _view_connections(name, layer, n_initial) for name, layer in layers.items()}
    rule.prepare(before, update)
    drops = {name: _drop(connections, rule, update, generator) for name, connections in before.items()}
    kept = rule.after_drop({n: drop.kept for n, drop in drops.items()}, {n: c.layer for n, c in before.items()})
    n_grown = {name: drop.target - len(kept[name]) for name, drop in drops.items()}
    growths = {}
    for name, connections in before.items():
        blocks = gradient_of(name, layers[name]) if gradient_of else None
        candidates = Candidates(connections.layer, rule, generator, layers[name], blocks)
        growths[name] = _grow(candidates, connections, drops[name].scores, kept[name], n_grown[name])
    del drops, kept  # of the size of the network
    changes = {
        name: _apply(layer, before[name], growths[name], rule, optimizer, generator) for name, layer in layers.items()
    }
    rule.after_update(changes)
    return {name: _count_connections(changes[name], layer) for name, layer in layers.items()}


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
    """Drop connections of one layer and grow others, see :func:`update_network`.

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
    initial = None if n_initial is None else {name: n_initial}
    source = None if gradient is None else lambda *_: gradient
    return update_network({name: layer}, rule, Update(fraction), optimizer, generator, initial, source)[name]


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


@dataclass(frozen=True)
class _Drop:
    """Result of the first half of an update: the connections that a layer keeps, and the number that it shall have."""

    kept: Tensor
    target: int
    scores: Tensor | None


@dataclass(frozen=True)
class _Growth:
    """Result of the second half of an update: the active positions, ascending, and how many of them growth chose."""

    positions: Tensor
    n_chosen: int


def _view_connections(name: str, layer: SparseLayer, n_initial: Mapping[str, int] | None) -> Connections:
    positions = layer.active_positions()
    n_active = len(positions)
    state = LayerState(name, layer.n_out, layer.n_in, n_active, n_active if n_initial is None else n_initial[name])
    return Connections(state, positions, layer.active_values(), lambda: _read_gradient(layer))


def _read_gradient(layer: SparseLayer) -> Tensor:
    """Return the gradient of the active connections; zeros if the layer has no part in the loss."""
    gradient = layer.parameter.grad
    return torch.zeros_like(layer.active_values()) if gradient is None else layer.compress(gradient)


def _drop(connections: Connections, rule: Rule, update: Update, generator: torch.Generator) -> _Drop:
    n_active = connections.layer.n_active
    n_drop, n_grow = rule.counts(connections.layer, update)
    if n_drop == n_grow == 0 and not isinstance(rule, StructuredRule):
        return _Drop(connections.positions, n_active, None)
    scores = rule.drop_scores(connections, generator)
    kept = connections.positions[select_top(scores, n_active - n_drop)]
    return _Drop(kept, n_active - n_drop + n_grow, scores)


def _grow(
    candidates: Candidates, before: Connections, drop_scores: Tensor | None, kept: Tensor, n_grow: int
) -> _Growth:
    """Choose the connections after the update; those before it if nothing changes.

    Raises:
        SettingError: If there would be none.
    """
    rule, layer = candidates.rule, before.layer
    if drop_scores is not None and isinstance(rule, StructuredRule):
        after = candidates.grow_to_fan_in(rule, before.positions, drop_scores, kept, n_grow)
    elif n_grow == 0 and len(kept) == layer.n_active:
        return _Growth(before.positions, 0)
    else:
        grown = candidates.select_best(kept if rule.may_return else before.positions, n_grow)
        missing, n_grow = n_grow - len(grown), len(grown)
        if missing:  # too few were drawn: as many stay that would have been dropped
            kept = _keep_more(rule, before, drop_scores, len(kept) + missing)
        after = sort_ascending(torch.cat([kept, grown]))
    if len(after) == 0:
        raise SettingError(
            f"{layer.name}: the update would drop all {layer.n_active} connections of this {layer.n_out} × "
            f"{layer.n_in} layer and grow none: lower the sparsity or widen the layer"
        )
    return _Growth(after, n_grow)


def _keep_more(rule: Rule, before: Connections, drop_scores: Tensor | None, count: int) -> Tensor:
    """Return the ``count`` connections with the highest drop scores.

    Raises:
        RuntimeError: If they might be among those that the rule has drawn.
    """
    if rule.may_return or drop_scores is None or count > before.layer.n_active:
        raise RuntimeError(
            f"{type(rule).__name__}.draw_candidates drew fewer than {before.layer.name} is to grow: draw as many as "
            "are asked for, or set may_return = False"
        )
    return before.positions[select_top(drop_scores, count)]


def _apply(
    layer: SparseLayer,
    before: Connections,
    growth: _Growth,
    rule: Rule,
    optimizer: Optimizer | None,
    generator: torch.Generator,
) -> Change:
    """Change which connections are active, and set the weights of the new ones."""
    after, n_before = growth.positions, before.layer.n_active
    if after is before.positions:
        return Change(0, 0, 0.0)
    stayed = layer.set_active(after, moments_of(layer, optimizer))
    if len(after) > stayed:
        _set_grown_values(layer, before, after, rule, generator)
    return Change(n_before - stayed, len(after) - stayed, growth.n_chosen / max(1, n_before))


def _count_connections(change: Change, layer: SparseLayer) -> Change:
    """Count the connections of changed pairs."""
    size = layer.size if isinstance(layer, GroupView) else 1
    return Change(change.dropped * size, change.grown * size, change.contested)


def _set_grown_values(
    layer: SparseLayer, before: Connections, after: Tensor, rule: Rule, generator: torch.Generator
) -> None:
    if type(rule).grown_values is Rule.grown_values:
        return
    new = ~torch.isin(after, before.positions)
    grown = rule.grown_values(after[new], before.layer, generator)
    if grown is not None:
        values = layer.active_values()
        layer.set_values(values.masked_scatter(new, grown.to(values)))
