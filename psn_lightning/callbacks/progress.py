"""Progress bar with a low refresh rate."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, ProgressColumn, TimeRemainingColumn

_PER_SECOND = 4
_LOSS = "train/loss"


class Progress(RichProgressBar):
    """Lightning's rich progress bar, drawn at most four times per second.

    By default Lightning draws up to a hundred times per second and collects the metrics after every batch, which
    together takes longer than a training step on sparse weights.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=_PER_SECOND)
        self._drawn = 0.0
        self._missed: int | None = None  # index of the latest batch if the bar does not show it yet

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the bar if it was not drawn in the last quarter of a second, and after the last batch."""
        now = time.monotonic()
        if now - self._drawn > 1 / _PER_SECOND or trainer.is_last_batch:
            self._drawn, self._missed = now, None
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        else:
            self._missed = batch_idx

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last batch of a run that ends within an epoch."""
        if self._missed is not None:
            super().on_train_batch_end(trainer, pl_module, None, None, self._missed)
        super().on_train_epoch_end(trainer, pl_module)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Metrics of the bar, by the last part of their names where that tells them apart; no version number.

        The loss of :class:`SparseClassifier` is read here, when it is drawn: Lightning would read it after every batch.
        """
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if _LOSS not in metrics and _LOSS in trainer.callback_metrics:
            metrics = {_LOSS: float(trainer.callback_metrics[_LOSS]), **metrics}
        last = [name.rpartition("/")[2] for name in metrics]
        return {
            short if last.count(short) == 1 else name: value
            for (name, value), short in zip(metrics.items(), last, strict=True)
        }

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Columns of the bar; a short bar and the remaining time leave room for two metrics in 80 columns."""
        epoch, _, batches, _, speed = super().configure_columns(trainer)
        return [epoch, BarColumn(bar_width=12), batches, TimeRemainingColumn(compact=True), speed]
