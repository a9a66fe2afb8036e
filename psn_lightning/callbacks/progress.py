"""The progress bar."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

_PER_SECOND = 4


class Progress(RichProgressBar):
    """Lightning's bar, drawn a few times in a second.

    Lightning draws up to a hundred times a second, and collects the metrics after every batch: together that takes
    longer than a training step on sparse weights.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=_PER_SECOND)
        self._drawn = 0.0
        self._missed: int | None = None  # the last batch, where the bar does not show it yet

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if it is time to, and at the end of the epoch."""
        now = time.monotonic()
        if now - self._drawn > 1 / _PER_SECOND or trainer.is_last_batch:
            self._drawn, self._missed = now, None
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        else:
            self._missed = batch_idx

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what a run that ends within its epoch would not show."""
        if self._missed is not None:
            super().on_train_batch_end(trainer, pl_module, None, None, self._missed)
        super().on_train_epoch_end(trainer, pl_module)
