"""What all processes of a run must agree on."""

from __future__ import annotations

import hashlib
from typing import cast

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks.layers import layers_of
from psn_lightning.errors import SettingError


def check_equal_connectivity(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Compare a digest of the connections over the processes; free where there is only one.

    Raises:
        RuntimeError: If they differ.
    """
    if trainer.world_size == 1:
        return
    digest = hashlib.blake2b(digest_size=8)
    for layer in layers_of(pl_module).values():
        digest.update(layer.active_positions().cpu().numpy().tobytes())
    mine = torch.tensor(int.from_bytes(digest.digest(), "big", signed=True), device=pl_module.device)
    every = cast(torch.Tensor, pl_module.all_gather(mine))
    if (every != mine).any():
        raise RuntimeError(
            f"step {trainer.global_step}: the processes' connections differ (digests {every.tolist()}); "
            "something has changed weights, gradients or random numbers on one process only"
        )


def refuse_sharding(strategy: str) -> None:
    """Refuse strategies that cut parameters into pieces.

    Args:
        strategy: Name or class of the Trainer's strategy.

    Raises:
        SettingError: For FSDP, DeepSpeed and model parallelism.
    """
    plain = strategy.lower().replace("_", "")
    if any(kind in plain for kind in ("fsdp", "deepspeed", "modelparallel")):
        raise SettingError(
            f"strategy {strategy} cuts the weights into pieces, but masks and growth scores need whole layers: "
            "use ddp, which trains the same network on every process"
        )
