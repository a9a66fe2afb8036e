"""Stops a run whose loss is not a number, with what is needed to find out why."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from psn_lightning.callbacks.checkpoint import BestAndLast
from psn_lightning.callbacks.durable import DurableIO
from psn_lightning.data import Batch
from psn_lightning.errors import DivergedError, SettingError
from psn_lightning.task import SparseClassifier

AUTOPSY = "autopsy.ckpt"
"""Beside the run's checkpoints: network, optimizers and batch of the step whose loss was not finite."""


class NumericalGuard(pl.Callback):
    """Ends a run at the first loss that is not finite, before its gradient is taken; warns of many dead neurons.

    ``autopsy.ckpt`` (of several processes ``rank1-autopsy.ckpt`` as well) has network and optimizers as they were, and
    the batch; ``psn-train test --ckpt_path`` loads it.

    Args:
        dead_neurons: Share of a layer's neurons without any input above which a warning is given, once per layer.

    Raises:
        SettingError: If the share is not in [0, 1].
    """

    def __init__(self, dead_neurons: float = 0.1) -> None:
        if not 0 <= dead_neurons <= 1:
            raise SettingError(f"guards.dead_neurons {dead_neurons} is not in [0, 1]: 1 never warns")
        self.dead_neurons = dead_neurons
        self._batch: Batch | None = None
        self._batch_index = 0
        self._warned: set[str] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember what the coming loss is of."""
        self._batch, self._batch_index = batch, batch_idx

    def on_before_backward(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        loss: Tensor,
    ) -> None:
        """Stop where the loss is not finite, on all processes where it is so on one.

        Raises:
            DivergedError: With step, batch and layers.
        """
        value, step, epoch = loss.item(), trainer.global_step, trainer.current_epoch
        finite = math.isfinite(value)
        if not trainer.strategy.reduce_boolean_decision(not finite, all=False):
            return
        if finite:
            raise DivergedError(f"the loss of another process is not finite at step {step} (epoch {epoch})")
        assert self._batch is not None
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
        DurableIO().save_checkpoint(checkpoint, path)
        layers = "; ".join(f"{name}: {_described(layer)}" for name, layer in pl_module.network.sparse_layers().items())
        raise DivergedError(
            f"the loss is {value} at step {step} (epoch {epoch}, batch {self._batch_index}, {_digest(self._batch)}). "
            f"{layers}. A lower model.lr may help\nEverything of that step is in {path}"
        )

    @staticmethod
    def _folder(trainer: pl.Trainer) -> Path:
        kept = next((c.dirpath for c in trainer.callbacks if isinstance(c, BestAndLast)), None)  # type: ignore[attr-defined]
        return Path(kept or trainer.default_root_dir)

    def on_train_start(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """Count the dead."""
        self._count(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """Count the dead."""
        self._count(pl_module)

    def _count(self, pl_module: SparseClassifier) -> None:
        for name, layer in pl_module.network.sparse_layers().items():
            dead = int((layer.fan_in == 0).sum())
            if dead > self.dead_neurons * layer.out_features and name not in self._warned:
                self._warned.add(name)
                rank_zero_warn(
                    f"{dead} of {layer.out_features} neurons in {name} have lost all their inputs (guards.dead_neurons "
                    f"{self.dead_neurons}): a lower sparsity or drop_fraction keeps more alive"
                )


def _described(layer: Any) -> str:
    """Weights and dead neurons of a layer in words."""
    weights = layer.active_values().detach()
    finite = weights[torch.isfinite(weights)]
    largest = f"|w| ≤ {float(finite.abs().max()):.3g}" if len(finite) else "no finite weight"
    broken = f", {len(weights) - len(finite)} not finite" if len(finite) < len(weights) else ""
    return f"{largest}{broken}, {int((layer.fan_in == 0).sum())} dead neurons"


def _digest(batch: Batch) -> str:
    sha = hashlib.sha256()
    for tensor in batch:
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256 {sha.hexdigest()[:12]}"
