"""What is kept and said of a run that diverged: state, batch, weights by layer."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from psn_lightning.callbacks.layers import layers_of
from psn_lightning.nn import SparseLayer
from psn_lightning.nn.torch_private import list_leaves

AUTOPSY = "autopsy.ckpt"
"""File name of the state of a run that diverged; saved beside the run's checkpoints."""


def write_autopsy(
    trainer: pl.Trainer, pl_module: pl.LightningModule, step: int, batch: Any = None, loss: float = math.nan
) -> Path:
    """Save the states of module and optimizers; further processes write ``rank1-autopsy.ckpt`` and so on.

    Args:
        trainer: Trainer of the run.
        pl_module: Module of the run.
        step: Optimizer step that diverged.
        batch: Batch of the step, if it is known.
        loss: Loss of the step, if it is known.

    Returns:
        Path of the file.
    """
    name = AUTOPSY if trainer.is_global_zero else f"rank{trainer.global_rank}-{AUTOPSY}"
    kept = trainer.checkpoint_callback
    folder = (kept.dirpath if isinstance(kept, ModelCheckpoint) else None) or trainer.default_root_dir
    path = Path(folder) / name
    checkpoint = {
        "pytorch-lightning_version": lightning.__version__,
        "global_step": step,
        "epoch": trainer.current_epoch,
        "state_dict": pl_module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "batch": batch,
        "loss": loss,
    }
    trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)
    return path


def describe_layers(pl_module: pl.LightningModule) -> str:
    """Describe the weights and the dead neurons of each sparse layer."""
    return "; ".join(f"{name}: {_describe_layer(layer)}" for name, layer in layers_of(pl_module).items())


def _describe_layer(layer: SparseLayer) -> str:
    """Describe the weights and the dead neurons of a layer."""
    weights = layer.active_values().detach()
    finite = weights[torch.isfinite(weights)]
    largest = f"|w| ≤ {float(finite.abs().max()):.3g}" if len(finite) else "no finite weight"
    broken = f", {len(weights) - len(finite)} not finite" if len(finite) < len(weights) else ""
    return f"{largest}{broken}, {int((layer.fan_in == 0).sum())} dead neurons"


def digest_batch(batch: Any) -> str:
    """Compute a digest of all tensors in a nested batch."""
    sha = hashlib.sha256()
    for leaf in list_leaves(batch):
        if isinstance(leaf, Tensor):
            sha.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256 {sha.hexdigest()[:12]}"
