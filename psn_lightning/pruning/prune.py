"""Pruning of any module by a saliency, with exact counts and the controls of the literature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from psn_lightning.dynamics import moments_of
from psn_lightning.dynamics.selection import select_top
from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.nn import InitName, SparsityTable, describe, sparse_layers, sparsify
from psn_lightning.nn.init import initial_values
from psn_lightning.pruning.saliency import Saliency, Scope
from psn_lightning.pruning.twin import Forward, Twin, classify
from psn_lightning.topology import check_sparsity

Shuffle = Literal["positions", "inputs"]
"""Control that moves the connections that are left: anywhere in the layer, or to other inputs of their neuron."""


def prune(
    module: nn.Module,
    saliency: Saliency,
    sparsity: float,
    batches: Sequence[Any] = (),
    scope: Scope | None = None,
    rounds: int | None = None,
    shuffle: Shuffle | None = None,
    redraw: InitName | None = None,
    forward: Forward = classify,
    optimizers: Sequence[Optimizer] = (),
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    seed: int = 42,
) -> SparsityTable:
    """Remove the connections of a module that a saliency finds least important, in place.

    A dense module is made sparse first, see :func:`psn_lightning.sparsify`; of a sparse one the present connections are
    ranked. Exactly ``round((1 - sparsity) * positions)`` connections stay, in each layer if the scope is the layer; in
    round r of R the share of the connections that is left is the r-th part of the way, geometrically. Biases and layers
    that are not sparse are left alone.

    Args:
        module: Module to change.
        saliency: Importance of a connection.
        sparsity: Share of absent connections afterwards, in [0, 1).
        batches: Batches of training data for the saliency.
        scope: ``network``: scores of all layers are compared, so that layers end at different sparsities; ``layer``:
            every layer ends at ``sparsity``. Default: that of the saliency.
        rounds: Number of rounds of scoring and pruning; default: that of the saliency.
        shuffle: Control (Frankle et al., 2021, arXiv 2009.08576). ``positions``: the connections of each layer are put
            to random positions; ``inputs``: those of each neuron, so that the fan-in stays.
        redraw: Control: new initial weights of this kind for the same mask; see
            :func:`~psn_lightning.nn.init.initial_values`.
        forward: Function from module and batch to logits and labels; by default ``(module(x), y)`` of ``(x, y)``.
        optimizers: Optimizers whose moments follow the connections.
        include: Glob patterns of the layers of a dense module to make sparse; all by default.
        exclude: Glob patterns of layers to keep dense.
        seed: Seed of random scores and of the controls.

    Returns:
        Table of the sparse layers.

    Raises:
        SettingError: If a setting is not possible, data are needed, or nothing would be left of a layer.
    """
    check_sparsity(sparsity)
    scope, rounds = scope or saliency.scope, saliency.rounds if rounds is None else rounds
    _check(scope, rounds, shuffle)
    if not sparse_layers(module):
        sparsify(module, 0.0, allocation="uniform", include=include, exclude=exclude)
    elif include is not None or exclude:
        raise SettingError("the module is sparse already: include and exclude select layers of a dense one")
    _refuse_groups(module)
    generator = torch.Generator().manual_seed(seed)
    twin = Twin(module, forward)
    before = {name: mask.clone() for name, mask in twin.masks.items()}
    for kept in _count_rounds(before, sparsity, scope, rounds):
        masks = saliency.complete(_keep_best(twin, saliency.scores(twin, batches, generator), kept))
        _refuse_collapse(masks, type(saliency).__name__, scope)
        twin.restrict(masks)
    rng = np.random.default_rng(seed)
    for name, layer in sparse_layers(module).items():
        mask = _shuffle(twin.masks[name], before[name], shuffle, generator)
        moments = [moment for optimizer in optimizers for moment in moments_of(layer, optimizer)]
        layer.set_mask(mask.to(layer.parameter.device), moments)
        if redraw is not None:
            layer.set_values(torch.from_numpy(initial_values(layer.connectivity, redraw, rng)))
    return describe(module)


def _refuse_groups(module: nn.Module) -> None:
    """Check that single connections of all layers can be removed.

    Raises:
        SettingError: If a layer has storage groups.
    """
    grouped = [name for name, layer in sparse_layers(module).items() if layer.storage == "groups"]
    if grouped:
        raise SettingError(
            f"pruning removes single connections, but in storage groups the neurons of {', '.join(grouped)} share "
            "their inputs: use storage masked or csr, or the rule GMP, which removes inputs of whole groups"
        )


def _check(scope: str, rounds: int, shuffle: str | None) -> None:
    if scope not in get_args(Scope):
        raise SettingError(f"scope {scope!r} is not one of {', '.join(get_args(Scope))}")
    if rounds < 1:
        raise SettingError(f"rounds {rounds} must be at least 1")
    if shuffle is not None and shuffle not in get_args(Shuffle):
        raise SettingError(f"shuffle {shuffle!r} is not one of {', '.join(get_args(Shuffle))}")


def _count_rounds(masks: dict[str, Tensor], sparsity: float, scope: Scope, rounds: int) -> list[dict[str, int]]:
    """Count the connections that stay in each round, by layer, or under ``""`` in all layers together.

    Raises:
        SettingError: If fewer connections are there than shall stay.
    """
    groups = {"": list(masks.values())} if scope == "network" else {name: [mask] for name, mask in masks.items()}
    chain: list[dict[str, int]] = [{} for _ in range(rounds)]
    for name, members in groups.items():
        now, size = (int(sum(f(mask) for mask in members)) for f in (torch.count_nonzero, torch.numel))
        last = round((1 - sparsity) * size)
        if last > now:
            raise SettingError(
                f"sparsity {sparsity} would leave {last} connections, and {name or 'the network'} has {now}: pruning "
                "adds none"
            )
        for r in range(rounds):
            chain[r][name] = round(now * (last / now) ** ((r + 1) / rounds)) if r + 1 < rounds else last
    return chain


def _keep_best(twin: Twin, scores: dict[str, Tensor], kept: dict[str, int]) -> dict[str, Tensor]:
    """Select the connections with the highest scores; ties go to the earlier layer and the lower position."""
    if "" not in kept:
        return {name: _select(scores[name], mask, kept[name]) for name, mask in twin.masks.items()}
    every = _select(
        torch.cat([scores[name].flatten() for name in twin.masks]),
        torch.cat([mask.flatten() for mask in twin.masks.values()]),
        kept[""],
    )
    parts = torch.split(every, [mask.numel() for mask in twin.masks.values()])
    return {name: part.view_as(mask) for (name, mask), part in zip(twin.masks.items(), parts, strict=True)}


def _select(scores: Tensor, active: Tensor, count: int) -> Tensor:
    """Select some of the active positions; all if there are fewer."""
    positions = active.flatten().nonzero().squeeze(1)
    count = min(count, len(positions))
    mask = torch.zeros(active.numel(), dtype=torch.bool)
    mask[positions[select_top(scores.flatten()[positions], count)]] = True
    return mask.view_as(active)


def _refuse_collapse(masks: dict[str, Tensor], name: str, scope: str) -> None:
    """Check that something is left of every layer.

    Raises:
        UnreachableError: If a layer would be empty.
    """
    empty = [layer for layer, mask in masks.items() if not mask.any()]
    if empty:
        advice = "lower the sparsity" if scope == "layer" else "lower the sparsity, set scope to layer, or use SynFlow"
        raise UnreachableError(f"pruning by {name} leaves nothing of {', '.join(empty)} (layer collapse): {advice}")


def _shuffle(mask: Tensor, before: Tensor, shuffle: Shuffle | None, generator: torch.Generator) -> Tensor:
    """Put connections to random positions among those that were active before."""
    if shuffle is None:
        return mask
    order = torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    if shuffle == "positions":
        return _select(order, before, int(mask.sum()))
    rows = [_select(o, b, int(m.sum())) for o, b, m in zip(order, before, mask, strict=True)]
    return torch.stack(rows)
