"""Checks for runs on several processes: equal connections, whole weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks.layers import layers_of
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer


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


def refuse_changing_counts(trainer: pl.Trainer, layers: Mapping[str, SparseLayer], what: str) -> None:
    """Check that no storage has to change its number of connections on several processes, which only masked can.

    Args:
        trainer: Trainer of the run.
        layers: Layers by name whose counts change.
        what: What changes them, for the message.

    Raises:
        SettingError: If a layer has storage csr or groups and the run has several processes.
    """
    fixed = [name for name, layer in layers.items() if layer.storage != "masked"]
    if fixed and trainer.world_size > 1:
        raise SettingError(
            f"{what} changes the number of connections of {', '.join(fixed)}, which storage {layers[fixed[0]].storage} "
            f"cannot on {trainer.world_size} processes: use storage masked, or one process"
        )


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
