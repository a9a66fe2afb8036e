"""States of a callback that differ between processes, as one list in a checkpoint."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist


def gather_by_rank(trainer: pl.Trainer, own: Any) -> list[Any]:
    """Gather an object of every process; every process has to call this function.

    Args:
        trainer: Trainer of the run.
        own: Object of this process; it must be picklable.

    Returns:
        Objects of all processes by rank.
    """
    if trainer.world_size == 1:
        return [own]
    states: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(states, own)
    return states


def pop_own_state(trainer: pl.Trainer, states: list[Any]) -> Any | None:
    """Empty a list of states by rank and return the state of this process; None if the list has none for its rank."""
    own = states[trainer.global_rank] if trainer.global_rank < len(states) else None
    states.clear()
    return own
