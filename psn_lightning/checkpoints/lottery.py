"""The lottery ticket (Frankle and Carbin, 2019, arXiv 1803.03635): a ticket is a checkpoint with fewer connections.

A level of iterative magnitude pruning trains a ticket; the next ticket has the connections that the training made
largest, and the weights and loop state of an early checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from psn_lightning.checkpoints.origin import KEY
from psn_lightning.checkpoints.stored_layers import StoredLayer, read_layers, write_connections
from psn_lightning.dynamics.selection import select_top
from psn_lightning.errors import SettingError
from psn_lightning.pruning import Scope

RewindTo = Literal["weights", "schedule"]

_OF_THE_EARLIER_FIT = ("BestAndLast", "ModelCheckpoint", "TopologyLogger", "EquilibriumMonitor", "LastEvaluation")
_AVERAGES = "averaging_state"  # entry of Lightning's WeightAveraging


def make_ticket(
    rewind: Mapping[str, Any],
    trained: Mapping[str, Any],
    share: float = 0.2,
    levels: int = 1,
    scope: Scope = "layer",
    rewind_to: RewindTo = "weights",
) -> dict[str, Any]:
    """Make a ticket: the checkpoint to rewind to, with the connections that have the largest trained weights.

    ``n - round(share * n)`` of n connections stay, in every layer or in all together; ties go to the earlier layer and
    the lower position. Only the weights of sparse layers are pruned: biases, norms and dense layers, such as the output
    layer of :class:`SparseClassifier`, are left alone.

    The ticket resumes like any checkpoint: learning rate schedule, data order and random generators are those of the
    rewind checkpoint. Optimizer states are empty, and what callbacks know of the earlier fit is dropped.

    Args:
        rewind: Checkpoint of optimizer step k of the first fit, see :class:`RewindPoint`; not changed. A dict with the
            entry ``state_dict`` is enough.
        trained: Last checkpoint of the level before, on the same device; its connections are those that may stay.
        share: Share of the connections to prune, in [0, 1).
        levels: Number of levels to prune at once (one shot); the count is that of so many levels.
        scope: ``layer``: the share is pruned from every layer; ``network``: from all layers together.
        rewind_to: ``weights``: the weights of the rewind checkpoint; ``schedule``: all parameters of the trained one,
            rewound is the rest only (Renda et al., 2020, arXiv 2003.02389).

    Returns:
        Checkpoint of the ticket.

    Raises:
        SettingError: If an argument is out of range, the checkpoints do not belong together, or nothing would be left
            of a layer.
    """
    _check(rewind, share, levels, scope, rewind_to)
    start = read_layers(rewind["state_dict"])
    kept = _select_largest(read_layers(trained["state_dict"]), share, levels, scope)
    if not kept or kept.keys() != start.keys():
        raise SettingError(
            f"the checkpoints have the sparse layers {', '.join(start) or 'none'} and {', '.join(kept) or 'none'}: a "
            "lottery needs those of one module that is made sparse by sparsify, with sparsity 0 for a dense start"
        )
    ticket = copy.deepcopy(dict(rewind))
    if rewind_to == "schedule":
        ticket["state_dict"] = copy.deepcopy(trained["state_dict"])
    _set_connections(ticket["state_dict"], kept)
    if "optimizer_states" in ticket:
        ticket["optimizer_states"] = [{**state, "state": {}} for state in ticket["optimizer_states"]]
    if "callbacks" in ticket:
        states = ticket["callbacks"].items()
        ticket["callbacks"] = {key: state for key, state in states if not key.startswith(_OF_THE_EARLIER_FIT)}
    if KEY in ticket:
        left, whole = sum(map(len, kept.values())), sum(len(layer.positions) for layer in start.values())
        how = f"by {scope}{' in one shot' if levels > 1 else ''}, {rewind_to} of step {rewind['global_step']}"
        ticket[KEY] = {**ticket[KEY], "run_id": None, "ticket": f"{left} of {whole} connections {how}"}
    return ticket


def redraw_ticket(ticket: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Make the control whose weights are drawn again: the connections of a ticket, all parameters of another network.

    Args:
        ticket: Ticket; not changed.
        drawn: State dict of a newly initialised module with all connections.

    Returns:
        Checkpoint of the control.

    Raises:
        SettingError: If the other network lacks a connection of the ticket.
    """
    control = _make_control(ticket, drawn, "redrawn")
    layers = read_layers(ticket["state_dict"])
    _set_connections(control["state_dict"], {name: layer.positions for name, layer in layers.items()})
    return control


def shuffle_ticket(ticket: Mapping[str, Any], rewind: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Make the control whose connections are shuffled: as many in every layer as the ticket has, at random positions.

    Args:
        ticket: Ticket; not changed.
        rewind: Checkpoint that the ticket was made of: its connections are drawn from, with their weights.
        seed: Seed of the positions.

    Returns:
        Checkpoint of the control.
    """
    layers, start = read_layers(ticket["state_dict"]), read_layers(rewind["state_dict"])
    drawn = {}
    for i, (name, layer) in enumerate(layers.items()):
        rng = np.random.default_rng([seed, i])
        chosen = rng.choice(len(start[name].positions), len(layer.positions), replace=False, shuffle=False)
        drawn[name] = start[name].positions[torch.from_numpy(np.sort(chosen)).to(layer.positions.device)]
    control = _make_control(ticket, rewind["state_dict"], "shuffled")
    _set_connections(control["state_dict"], drawn)
    return control


def count_connections(checkpoint: Mapping[str, Any]) -> int:
    """Count the connections of all sparse layers in a checkpoint."""
    return sum(len(layer.positions) for layer in read_layers(checkpoint["state_dict"]).values())


def count_kept(n: int, share: float, levels: int = 1) -> int:
    """Count the connections that are left of ``n`` after some levels: n_i = n_(i-1) - round(share * n_(i-1))."""
    for _ in range(levels):
        n -= round(share * n)
    return n


def _check(rewind: Mapping[str, Any], share: float, levels: int, scope: str, rewind_to: str) -> None:
    if not 0 <= share < 1:
        raise SettingError(f"share {share} must be in [0, 1): the share of the connections that a level prunes")
    if levels < 1:
        raise SettingError(f"levels {levels} must be at least 1")
    for name, value, choices in (("scope", scope, get_args(Scope)), ("rewind_to", rewind_to, get_args(RewindTo))):
        if value not in choices:
            raise SettingError(f"{name} {value!r} is not one of {', '.join(choices)}")
    if _AVERAGES in rewind:
        raise SettingError(
            "the checkpoint has averaged weights beside its own: a lottery needs a run without averaging"
        )


def _select_largest(layers: Mapping[str, StoredLayer], share: float, levels: int, scope: Scope) -> dict[str, Tensor]:
    """Select the connections with the largest weights.

    Raises:
        SettingError: If nothing would be left of a layer.
    """
    magnitudes = {name: layer.values.abs() for name, layer in layers.items()}
    if scope == "network" and layers:
        sizes = [len(scores) for scores in magnitudes.values()]
        every = torch.cat(list(magnitudes.values()))
        is_kept = torch.zeros(len(every), dtype=torch.bool, device=every.device)
        is_kept[select_top(every, count_kept(len(every), share, levels))] = True
        chosen = dict(zip(layers, (part.nonzero().squeeze(1) for part in torch.split(is_kept, sizes)), strict=True))
    else:
        chosen = {name: select_top(s, count_kept(len(s), share, levels)) for name, s in magnitudes.items()}
    empty = [name for name, indices in chosen.items() if not len(indices)]
    if empty:
        raise SettingError(
            f"nothing is left of {', '.join(empty)} (layer collapse): prune fewer levels or a smaller share"
        )
    return {name: layers[name].positions[indices] for name, indices in chosen.items()}


def _make_control(ticket: Mapping[str, Any], state_dict: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Copy a ticket with another state dict, and say so in its description."""
    control = {**copy.deepcopy(dict(ticket)), "state_dict": copy.deepcopy(dict(state_dict))}
    if KEY in control:
        control[KEY] = {**control[KEY], "ticket": f"{control[KEY]['ticket']}, {name}"}
    return control


def _set_connections(state_dict: dict[str, Any], kept: Mapping[str, Tensor]) -> None:
    """Restrict the layers of a state dict to some of their connections, in place."""
    for name, layer in read_layers(state_dict).items():
        write_connections(state_dict, layer, kept[name], layer.values_at(kept[name]))
