"""Stops a run whose loss is not a number, with what is needed to find out why."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils._pytree import tree_leaves

from psn_lightning.callbacks.flags import flags_of
from psn_lightning.callbacks.layers import layers_of
from psn_lightning.errors import DivergedError, SettingError
from psn_lightning.nn import SparseLayer

AUTOPSY = "autopsy.ckpt"
"""Beside the run's checkpoints: network, optimizers and batch of the step whose loss was not finite."""


class NumericalGuard(pl.Callback):
    """Ends a run at a loss that is not finite; warns of many dead neurons.

    On the CPU that is before the gradient of this loss is taken: ``autopsy.ckpt`` (of several processes
    ``rank1-autopsy.ckpt`` as well) has network and optimizers as they were, and the batch; ``psn-train test
    --ckpt_path`` loads it. On an accelerator the loss is looked at every ``log_every_n_steps`` steps only, because each
    look makes the device wait; then the message says so.

    Args:
        dead_neurons: Share of a layer's neurons without any input above which a warning is given, once per layer.

    Raises:
        SettingError: If the share is not in [0, 1].
    """

    def __init__(self, dead_neurons: float = 0.1) -> None:
        if not 0 <= dead_neurons <= 1:
            raise SettingError(f"dead_neurons {dead_neurons} is not in [0, 1]: 1 never warns")
        self.dead_neurons = dead_neurons
        self._batch: Any = None
        self._batch_index = 0
        self._warned: set[str] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch of the coming loss."""
        self._batch, self._batch_index = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Stop where the loss is not finite, on all processes where it is so on one.

        Raises:
            DivergedError: With step, batch and layers.
        """
        flags = flags_of(trainer)
        flags.note_loss(loss)
        if not flags.is_due(trainer) or not flags.exchange(trainer).diverged:
            return
        value, step, epoch = loss.item(), trainer.global_step, trainer.current_epoch
        at_once = trainer.strategy.root_device.type == "cpu"
        if at_once and math.isfinite(value):
            raise DivergedError(f"the loss of another process is not finite at step {step} (epoch {epoch})")
        name = AUTOPSY if trainer.is_global_zero else f"rank{trainer.global_rank}-{AUTOPSY}"
        path = self._folder(trainer) / name
        checkpoint = {
            "pytorch-lightning_version": lightning.__version__,
            "global_step": step,
            "epoch": epoch,
            "state_dict": pl_module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "batch": self._batch,
            "loss": value,
        }
        trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, path)
        layers = "; ".join(f"{name}: {_described(layer)}" for name, layer in layers_of(pl_module).items())
        where = "at" if at_once else f"at or up to {trainer.log_every_n_steps} steps before"  # type: ignore[attr-defined]
        raise DivergedError(
            f"the loss is {value} {where} step {step} (epoch {epoch}, batch {self._batch_index}, "
            f"{_digest(self._batch)}). {layers}. A lower learning rate may help\nEverything of that step is in {path}"
        )

    @staticmethod
    def _folder(trainer: pl.Trainer) -> Path:
        kept = trainer.checkpoint_callback
        return Path((kept.dirpath if isinstance(kept, ModelCheckpoint) else None) or trainer.default_root_dir)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the dead."""
        flags_of(trainer).guarded = True
        self._count(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the dead."""
        self._count(pl_module)

    def _count(self, pl_module: pl.LightningModule) -> None:
        for name, layer in layers_of(pl_module).items():
            dead = int((layer.fan_in == 0).sum())
            if dead > self.dead_neurons * layer.n_out and name not in self._warned:
                self._warned.add(name)
                rank_zero_warn(
                    f"{dead} of {layer.n_out} neurons in {name} have lost all their inputs (dead_neurons "
                    f"{self.dead_neurons}): a lower sparsity or drop_fraction keeps more alive"
                )


def _described(layer: SparseLayer) -> str:
    """Weights and dead neurons of a layer in words."""
    weights = layer.active_values().detach()
    finite = weights[torch.isfinite(weights)]
    largest = f"|w| ≤ {float(finite.abs().max()):.3g}" if len(finite) else "no finite weight"
    broken = f", {len(weights) - len(finite)} not finite" if len(finite) < len(weights) else ""
    return f"{largest}{broken}, {int((layer.fan_in == 0).sum())} dead neurons"


def _digest(batch: Any) -> str:
    """Of all tensors in a batch, however they are nested."""
    sha = hashlib.sha256()
    for leaf in tree_leaves(batch):
        if isinstance(leaf, Tensor):
            sha.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256 {sha.hexdigest()[:12]}"
