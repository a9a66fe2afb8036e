"""Guard against divergence: a run with a loss that is not finite is stopped, with the data needed to find the cause."""

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

from psn_lightning.callbacks.flags import flags_of
from psn_lightning.callbacks.layers import layers_of
from psn_lightning.errors import DivergedError, SettingError
from psn_lightning.nn import SparseLayer
from psn_lightning.nn.torch_private import list_leaves

AUTOPSY = "autopsy.ckpt"
"""File name of the state and the batch of a step whose loss was not finite; saved beside the run's checkpoints."""


class NumericalGuard(pl.Callback):
    """Stops a run whose loss is not finite, and warns about dead neurons.

    On the CPU the run stops before the backward pass of that loss. ``autopsy.ckpt`` then holds the states of module and
    optimizers before the step, and the batch; further processes write ``rank1-autopsy.ckpt`` and so on. On an
    accelerator the loss is read every ``log_every_n_steps`` steps only, because reading it waits for the device: the
    step may then lie up to that many steps back.

    Args:
        dead_neurons: Share of a layer's neurons with fan-in 0, in [0, 1], above which a warning is given, once per
            layer.

    Raises:
        SettingError: If ``dead_neurons`` is not in [0, 1].
    """

    def __init__(self, dead_neurons: float = 0.1) -> None:
        if not 0 <= dead_neurons <= 1:
            raise SettingError(f"dead_neurons {dead_neurons} is not in [0, 1]: use 1 to switch the warning off")
        self.dead_neurons = dead_neurons
        self._batch: Any = None
        self._batch_index = 0
        self._warned: set[str] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch for the autopsy."""
        self._batch, self._batch_index = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Stop all processes if the loss of one is not finite.

        Raises:
            DivergedError: If a loss is not finite; the message names step, batch and layers.
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
        path = self._find_folder(trainer) / name
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
        layers = "; ".join(f"{name}: {_describe_layer(layer)}" for name, layer in layers_of(pl_module).items())
        where = "at" if at_once else f"at or up to {trainer.log_every_n_steps} steps before"  # type: ignore[attr-defined]
        raise DivergedError(
            f"the loss is {value} {where} step {step} (epoch {epoch}, batch {self._batch_index}, "
            f"{_digest_batch(self._batch)}). {layers}. Try a lower learning rate\nModule, optimizers and batch of the "
            f"step: {path}"
        )

    @staticmethod
    def _find_folder(trainer: pl.Trainer) -> Path:
        """Return the folder of the run's checkpoints, or the trainer's root folder without checkpoints."""
        kept = trainer.checkpoint_callback
        return Path((kept.dirpath if isinstance(kept, ModelCheckpoint) else None) or trainer.default_root_dir)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Announce that this callback exchanges the flags, and count dead neurons."""
        flags_of(trainer).guarded = True
        self._count_dead_neurons(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count dead neurons."""
        self._count_dead_neurons(pl_module)

    def _count_dead_neurons(self, pl_module: pl.LightningModule) -> None:
        """Warn about layers with many neurons of fan-in 0, once per layer."""
        for name, layer in layers_of(pl_module).items():
            dead = int((layer.fan_in == 0).sum())
            if dead > self.dead_neurons * layer.n_out and name not in self._warned:
                self._warned.add(name)
                rank_zero_warn(
                    f"{dead} of {layer.n_out} neurons in {name} have fan-in 0, more than dead_neurons "
                    f"{self.dead_neurons} allows: lower the sparsity or the drop_fraction"
                )


def _describe_layer(layer: SparseLayer) -> str:
    """Describe the weights and the dead neurons of a layer."""
    weights = layer.active_values().detach()
    finite = weights[torch.isfinite(weights)]
    largest = f"|w| ≤ {float(finite.abs().max()):.3g}" if len(finite) else "no finite weight"
    broken = f", {len(weights) - len(finite)} not finite" if len(finite) < len(weights) else ""
    return f"{largest}{broken}, {int((layer.fan_in == 0).sum())} dead neurons"


def _digest_batch(batch: Any) -> str:
    """Compute a digest of all tensors in a nested batch."""
    sha = hashlib.sha256()
    for leaf in list_leaves(batch):
        if isinstance(leaf, Tensor):
            sha.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256 {sha.hexdigest()[:12]}"
