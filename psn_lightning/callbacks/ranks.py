"""Checks for runs on several processes: equal connections, whole weights."""

from __future__ import annotations

import hashlib
from typing import cast

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks.layers import layers_of
from psn_lightning.errors import SettingError


def check_equal_connectivity(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Check that all processes have the same connections, by a digest; every process has to call this function.

    Raises:
        RuntimeError: If the connections differ.
    """
    if trainer.world_size == 1:
        return
    digest = hashlib.blake2b(digest_size=8)
    for layer in layers_of(pl_module).values():
        digest.update(layer.active_positions().cpu().numpy().tobytes())
    if unequal := find_unequal(pl_module, digest.digest()):
        raise RuntimeError(
            f"connections differ between processes at step {trainer.global_step} (digests by rank: {unequal}): "
            "check for code that changes weights, gradients or random numbers on one process only, and for processors "
            "of different kinds, which round differently"
        )


def find_unequal(pl_module: pl.LightningModule, digest: bytes) -> list[int]:
    """Compare a digest with those of the other processes; every process has to call this function.

    Args:
        pl_module: Module of the run.
        digest: Digest of this process, 8 bytes.

    Returns:
        Digests by rank if they differ; empty if they are equal.
    """
    mine = torch.tensor(int.from_bytes(digest, "big", signed=True), device=pl_module.device)
    every = cast(torch.Tensor, pl_module.all_gather(mine))
    return every.tolist() if (every != mine).any() else []


def refuse_sharding(strategy: str) -> None:
    """Check that a strategy keeps whole parameters on every process.

    Args:
        strategy: Name of the Trainer's strategy, or of its class.

    Raises:
        SettingError: If the strategy is FSDP, DeepSpeed or model parallelism.
    """
    plain = strategy.lower().replace("_", "")
    if any(kind in plain for kind in ("fsdp", "deepspeed", "modelparallel")):
        raise SettingError(
            f"strategy {strategy} shards weights, but masks and growth scores need whole layers: use ddp, which keeps "
            "a copy of the model on every process"
        )
