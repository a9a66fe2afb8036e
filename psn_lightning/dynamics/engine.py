"""Update of a network by any rule: exact connection counts, and optimizer state that moves with the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.dynamics.exchange import Growth, drop_connections, grow_connections
from psn_lightning.dynamics.growth import Candidates
from psn_lightning.dynamics.layer_views import view_connections
from psn_lightning.dynamics.moments import moments_of
from psn_lightning.dynamics.rules import Rule
from psn_lightning.dynamics.views import Change, Connections, Update
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
    before = {name: view_connections(name, layer, n_initial) for name, layer in layers.items()}
    rule.prepare(before, update)
    drops = {name: drop_connections(connections, rule, update, generator) for name, connections in before.items()}
    kept = rule.after_drop({n: drop.kept for n, drop in drops.items()}, {n: c.layer for n, c in before.items()})
    n_grown = {name: drop.target - len(kept[name]) for name, drop in drops.items()}
    growths = {}
    for name, connections in before.items():
        blocks = gradient_of(name, layers[name]) if gradient_of else None
        candidates = Candidates(connections.layer, rule, generator, layers[name], blocks)
        growths[name] = grow_connections(candidates, connections, drops[name].scores, kept[name], n_grown[name])
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


def _apply(
    layer: SparseLayer,
    before: Connections,
    growth: Growth,
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
