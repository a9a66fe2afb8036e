"""The engine: applies any rule to any layer, with exact counts, and moves the optimizer state along."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.dynamics.rules import Rule
from psn_lightning.nn import SparseLinear


@torch.no_grad()
def update_layer(
    layer: SparseLinear, rule: Rule, fraction: float, optimizer: Optimizer | None, generator: torch.Generator
) -> int:
    """Drop a share of a layer's connections and grow as many.

    Connections that stay, or are dropped and grow back at once, keep weight and moments; new ones start
    with both at 0. The number of connections never changes.

    Args:
        layer: The layer, with its dense gradient recorded where the rule needs it.
        rule: How connections are scored.
        fraction: Share of the active connections to drop, in [0, 1]; their number is rounded down.
        optimizer: Whose moments move with the weights.
        generator: Source of randomness, in the same state on every process.

    Returns:
        Number of connections dropped (and grown).
    """
    mask = layer.mask
    n_active = int(mask.sum())
    n_drop = int(fraction * n_active)
    if n_drop == 0:
        return 0
    weight = layer.dense_weight()
    gradient = layer.dense_gradient() if rule.needs_gradient else weight
    kept = _select(rule.drop_scores(weight, mask), mask, n_active - n_drop)
    grown = _select(rule.grow_scores(gradient, mask, generator), ~kept, n_drop)
    layer.set_mask(kept | grown, moments_of(layer, optimizer))
    return n_drop


def moments_of(layer: SparseLinear, optimizer: Optimizer | None) -> list[Tensor]:
    """The optimizer's tensors that are laid out like the layer's weight (not its step counter)."""
    state = {} if optimizer is None else optimizer.state.get(layer.weight, {})
    return [value for value in state.values() if isinstance(value, Tensor) and value.shape == layer.weight.shape]


def _select(scores: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Mask of exactly ``count`` candidates with the highest scores; ties go to the lower position.

    Non-candidates are never chosen, whatever their score; NaN counts as the lowest.
    """
    chosen = torch.zeros_like(candidates)
    if count == 0:
        return chosen
    positions = candidates.flatten().nonzero().squeeze(1)
    values = torch.nan_to_num(scores.flatten()[positions], nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    threshold = values.topk(count, sorted=False).values.min()
    above = values > threshold
    tied = (values == threshold).nonzero().squeeze(1)[: count - int(above.sum())]
    above[tied] = True
    chosen.view(-1)[positions[above]] = True
    return chosen
