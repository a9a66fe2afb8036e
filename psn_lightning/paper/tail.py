"""Tail of a run, the last third of its epochs: over it the analysis plan averages the accuracy."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from psn_lightning.errors import SettingError


def count_tail_epochs(epochs: int) -> int:
    """Count the epochs of the tail: a third of all, rounded up (2 of 5, 4 of 10, 7 of 20, 10 of 30)."""
    return -(-epochs // 3)


class TailEvaluation(pl.Callback):
    """Evaluates several times per epoch in the tail of a run, and once per epoch before.

    The accuracy of a single evaluation varies by 0.2 to 0.4 points from epoch to epoch; the mean over the tail varies
    less the more evaluations it has. Training is the same with and without this callback, bit for bit.

    Args:
        per_epoch: Number of evaluations per epoch of the tail.

    Raises:
        SettingError: If ``per_epoch`` is below 1.
    """

    def __init__(self, per_epoch: int = 4) -> None:
        if per_epoch < 1:
            raise SettingError(f"per_epoch {per_epoch} must be at least 1")
        self.per_epoch = per_epoch

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let Lightning evaluate after this batch, or after the last one of the epoch."""
        batches = int(trainer.num_training_batches)
        epochs = trainer.max_epochs or 0
        in_tail = trainer.current_epoch >= epochs - count_tail_epochs(epochs)
        due = {round(batches * i / self.per_epoch) for i in range(1, self.per_epoch + 1)} if in_tail else set()
        # Lightning evaluates if the number of batches done is a multiple of this one.
        trainer.val_check_batch = batch_idx + 1 if batch_idx + 1 in due else batches
