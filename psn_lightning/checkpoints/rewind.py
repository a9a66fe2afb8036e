"""The checkpoint that a lottery rewinds to, kept by its first fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from psn_lightning.callbacks import DynamicTopology, Prune
from psn_lightning.callbacks.latent import LatentWeights
from psn_lightning.callbacks.lightning_private import get_average_model, is_accumulating
from psn_lightning.callbacks.steps import count_total_steps
from psn_lightning.checkpoints.best_and_last import has_batches_left
from psn_lightning.checkpoints.restart import ExactRestart
from psn_lightning.errors import SettingError
from psn_lightning.nn import sparse_layers


class RewindPoint(Checkpoint):
    """Saves the checkpoint of one optimizer step, for :func:`~psn_lightning.make_ticket`.

    A fit that resumes from it repeats the rest of the run exactly. Put this callback before other callbacks that write
    checkpoints: a checkpoint of a later step then tells that this one was written.

    Args:
        step: Optimizer step; 0 is before the first one.
        path: File to write; an existing file is kept.

    Raises:
        SettingError: If the step is negative.
    """

    def __init__(self, step: int, path: str | Path) -> None:
        if step < 0:
            raise SettingError(f"rewinding to step {step}: give an optimizer step, 0 (before the first one) or later")
        self.step = step
        self.path = Path(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the callbacks.

        Raises:
            SettingError: If another callback changes connections, or averages weights.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, DynamicTopology | LatentWeights | Prune) or get_average_model(callback) is not None:
                raise SettingError(
                    f"a lottery prunes between its fits, and {type(callback).__name__} would change connections or "
                    "weights within them: leave it out"
                )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before the first step.

        Raises:
            SettingError: If the module has no sparse layer, or the step is not within the run.
        """
        if not sparse_layers(pl_module):
            raise SettingError(
                f"{type(pl_module).__name__} has no sparse layer that a lottery could prune: call sparsify first, or "
                "add the callback Sparsify, with sparsity 0 for a dense start"
            )
        n = max(1, len(trainer.optimizers))
        if self.step % n:
            raise SettingError(
                f"rewinding to step {self.step}: {n} optimizers step in every batch, so give a multiple of {n}"
            )
        plateau = any(config.reduce_on_plateau for config in trainer.lr_scheduler_configs)
        if plateau and not any(isinstance(callback, ExactRestart) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            raise SettingError(
                f"rewinding to step {self.step}: ReduceLROnPlateau loses an update at a checkpoint; add the callback "
                "ExactRestart, or use another schedule"
            )
        total = count_total_steps(trainer)
        if self.step >= total:
            raise SettingError(
                f"rewinding to step {self.step}: the run has {total:g} optimizer steps, so that none would be left to "
                "train"
            )
        self._save_if_due(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two optimizer steps of an epoch."""
        if not is_accumulating(trainer) and has_batches_left(trainer):
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save between two epochs."""
        if not has_batches_left(trainer):
            self._save_if_due(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path, weights_only=False)
