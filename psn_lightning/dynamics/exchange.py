"""Choice of the connections that an update drops and grows in one layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from psn_lightning.dynamics.growth import Candidates
from psn_lightning.dynamics.rules import Rule, StructuredRule
from psn_lightning.dynamics.selection import select_top, sort_ascending
from psn_lightning.dynamics.views import Connections, Update
from psn_lightning.errors import SettingError


@dataclass(frozen=True)
class Drop:
    """Result of the first half of an update."""

    kept: Tensor
    """Flat positions, ascending."""
    target: int
    """Number of connections after the update."""
    scores: Tensor | None
    """Drop scores of the connections before the update; None if nothing is to change."""


@dataclass(frozen=True)
class Growth:
    """Result of the second half of an update."""

    positions: Tensor
    """Flat positions of the connections after the update, ascending."""
    n_chosen: int
    """Number of them that growth chose."""


def drop_connections(connections: Connections, rule: Rule, update: Update, generator: torch.Generator) -> Drop:
    """Choose the connections that stay.

    Args:
        connections: Connections before the update.
        rule: Rule that scores them.
        update: Size and time of the update.
        generator: Random generator, in the same state on every process.
    """
    n_active = connections.layer.n_active
    n_drop, n_grow = rule.counts(connections.layer, update)
    if n_drop == n_grow == 0 and not isinstance(rule, StructuredRule):
        return Drop(connections.positions, n_active, None)
    scores = rule.drop_scores(connections, generator)
    kept = connections.positions[select_top(scores, n_active - n_drop)]
    return Drop(kept, n_active - n_drop + n_grow, scores)


def grow_connections(
    candidates: Candidates, before: Connections, drop_scores: Tensor | None, kept: Tensor, n_grow: int
) -> Growth:
    """Choose the connections after the update; those before it if nothing changes.

    Args:
        candidates: Candidates for growth.
        before: Connections before the update.
        drop_scores: Their scores, see :class:`Drop`.
        kept: Flat positions of the connections that stay, ascending.
        n_grow: Number of connections to grow.

    Raises:
        SettingError: If there would be none.
    """
    rule, layer = candidates.rule, before.layer
    if drop_scores is not None and isinstance(rule, StructuredRule):
        after = candidates.grow_to_fan_in(rule, before.positions, drop_scores, kept, n_grow)
    elif n_grow == 0 and len(kept) == layer.n_active:
        return Growth(before.positions, 0)
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
    return Growth(after, n_grow)


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
