"""Structures that any rule can be held to: N of M consecutive inputs, or units that are whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.rule import Rule, StructuredRule
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Update
from psn_lightning.errors import SettingError


class _Held(Rule):
    """Rule that leaves the scores to another one.

    Args:
        rule: Rule that scores the connections.

    Raises:
        SettingError: If the rule has a structure of its own, or removes connections one by one between drop and growth.
    """

    def __init__(self, rule: Rule) -> None:
        if isinstance(rule, StructuredRule | _Held) or type(rule).after_drop is not Rule.after_drop:
            raise SettingError(f"{type(rule).__name__} has a structure of its own and cannot be held to another one")
        if getattr(rule, "candidates", "all") != "all":
            raise SettingError(f"{type(rule).__name__} draws candidates, but a structure needs all: candidates: all")
        self.rule = rule
        self.needs_gradient = rule.needs_gradient
        self.may_return = rule.may_return
        self.keeps_count = rule.keeps_count
        self.ends_at_target = rule.ends_at_target

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that the rule can update the layers."""
        self.rule.check(layers)

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Prepare the rule."""
        self.rule.prepare(layers, update)

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections the rule drops and grows."""
        return self.rule.counts(layer, update)

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Scores of the rule, shape ``(n_connections,)``."""
        return self.rule.drop_scores(connections, generator)

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Scores of the rule, shape ``(neurons, n_in)``."""
        return self.rule.grow_scores(block, generator)

    def grown_values(self, positions: Tensor, layer: LayerState, generator: torch.Generator) -> Tensor | None:
        """First weights of new connections, those of the rule."""
        return self.rule.grown_values(positions, layer, generator)

    def after_update(self, changes: Mapping[str, Change]) -> None:
        """Let the rule see the result of an update."""
        self.rule.after_update(changes)

    def state_dict(self) -> dict[str, Any]:
        """State of the rule."""
        return self.rule.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state of the rule."""
        self.rule.load_state_dict(state_dict)


class NMRule(_Held, StructuredRule):
    """Rule held to N:M sparsity: of every M consecutive inputs of a neuron, exactly N are connected.

    After the drop each group is filled up by the growth scores of its own absent inputs. The first update turns
    masks of any structure into N:M. With 2:4 these are the masks of NVIDIA's sparse tensor cores (Mishra et al., 2021,
    arXiv 2104.08378); of a convolution the groups run along the flattened kernel.

    Args:
        rule: Rule that scores the connections.
        n: Number of connections of a group.
        m: Size of a group; it divides the number of inputs.

    Raises:
        SettingError: If the numbers do not fit, or the rule has a structure of its own.
    """

    def __init__(self, rule: Rule, n: int = 2, m: int = 4) -> None:
        super().__init__(rule)
        check_group(n, m)
        self.n = n
        self.m = m
        if not rule.keeps_count:
            raise SettingError(f"{type(rule).__name__} changes the number of connections, which {n}:{m} fixes")
        if not rule.may_return:
            raise SettingError(f"{type(rule).__name__} forbids what fills a group of {n}:{m}: what was just dropped")

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that groups of M fit into the inputs of each layer, and that it has N/M of its connections."""
        super().check(layers)
        for name, layer in layers.items():
            if layer.n_in % self.m or layer.n_initial * self.m != layer.n_positions * self.n:
                raise SettingError(
                    f"{name}: {self.n}:{self.m} needs a number of inputs that {self.m} divides and sparsity "
                    f"{1 - self.n / self.m:g}, not the {layer.n_initial} connections of this {layer.n_out} × "
                    f"{layer.n_in} layer: use a uniform allocation and a topology of an exact count, such as Uniform"
                )

    def group_size(self, layer: LayerState) -> int:
        """Return M."""
        return self.m

    def fan_in(self, count_salient: Callable[[], Tensor], layer: LayerState) -> Tensor:
        """Return N for every group."""
        return torch.full((layer.n_positions // self.m,), self.n)


class UnitRule(_Held):
    """Rule held to units: ``size`` consecutive inputs of a neuron that are all connected or all absent.

    By default a unit is a whole neuron, of a convolution a whole output channel. A unit's score is the mean of its
    connections' scores, and a layer has whole units, at least as many as the rule asks
    for. The network starts dense, or with whole units.

    Args:
        rule: Rule that scores the connections.
        size: Number of inputs of a unit, a divisor of the number of inputs; None is all of them.

    Raises:
        SettingError: If the size is below 1, or the rule has a structure of its own.
    """

    def __init__(self, rule: Rule, size: int | None = None) -> None:
        super().__init__(rule)
        check_unit(size)
        self.size = size

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that units fit into the inputs of each layer."""
        super().check(layers)
        for name, layer in layers.items():
            if layer.n_in % self._get_size(layer):
                raise SettingError(f"{name}: units of {self.size} do not divide its {layer.n_in} inputs")

    def _get_size(self, layer: LayerState) -> int:
        return self.size or layer.n_in

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Prepare the rule.

        Raises:
            SettingError: If a unit is neither whole nor absent.
        """
        super().prepare(layers, update)
        for name, connections in layers.items():
            size, positions = self._get_size(connections.layer), connections.positions
            units = positions[: len(positions) // size * size].view(-1, size) // size
            if len(positions) % size or bool((units != units[:, :1]).any()):
                raise SettingError(f"{name} does not consist of whole units of {size} inputs: start with sparsity 0")

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to drop and to grow, in whole units."""
        size = self._get_size(layer)
        n_drop, n_grow = super().counts(layer, update)
        target = -(-(layer.n_active - n_drop + n_grow) // size) * size
        n_drop = n_drop // size * size
        return n_drop, max(0, min(target, layer.n_positions) - (layer.n_active - n_drop))

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Mean score of the connection's unit, shape ``(n_connections,)``."""
        return pool(super().drop_scores(connections, generator), self._get_size(connections.layer))

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Mean score of the position's unit, shape ``(neurons, n_in)``."""
        return pool(super().grow_scores(block, generator), self._get_size(block.layer))


def check_group(n: int, m: int) -> None:
    """Check the numbers of N:M sparsity.

    Raises:
        SettingError: If 0 < n < m does not hold.
    """
    if not 0 < n < m:
        raise SettingError(f"n {n} and m {m} must be 0 < n < m: 2 of 4, for example")


def check_unit(size: int | None) -> None:
    """Check the size of a unit.

    Raises:
        SettingError: If it is below 1.
    """
    if size is not None and size < 1:
        raise SettingError(f"size {size} of a unit must be at least 1; null is a whole neuron")


def pool(scores: Tensor, size: int) -> Tensor:
    """Replace scores by the means of consecutive ``size`` of them, in their shape."""
    means = scores.reshape(-1, size).mean(dim=1, keepdim=True)
    return means.expand(-1, size).reshape(scores.shape)
