"""Corrections of how Lightning's loops go on from a checkpoint."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from psn_lightning.callbacks.lightning_private import begin_next_epoch, end_restart, is_accumulating

_KEY = "psn_lightning.restart"


class ExactRestart(pl.Callback):
    """Lets a fit go on from a checkpoint as if it had not stopped, where Lightning would not.

    - ``ReduceLROnPlateau``: Lightning does not save metrics, and leaves out the update that follows a checkpoint and
      the one at the end of the first epoch after it. This callback saves the monitored metrics, and both updates are
      made. Monitor a validation metric, or a value of a step: the mean of a training metric over an epoch is not saved,
      and after a checkpoint within an epoch it is the mean over the rest.
    - ``max_steps``: Lightning ends an epoch once more if the checkpoint was written at its end: it calls the hooks of
      the end twice, and with ``max_epochs`` the run is an epoch shorter. Here the next epoch begins.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the monitored metrics, and the updates that follow the hook in which the checkpoint is written."""
        monitored = {config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau}
        epochs: Any = trainer.fit_loop.epoch_progress
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress
        ends_step = batches.total.processed > batches.total.completed and not is_accumulating(trainer)
        checkpoint[_KEY] = {
            "metrics": {name: value for name, value in trainer.callback_metrics.items() if name in monitored},
            "due": {
                "epoch": trainer.current_epoch + 1 if epochs.total.processed > epochs.total.completed else None,
                "step": batches.current.ready if ends_step else None,
            },
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the state until training starts: Lightning empties the metrics and restores the schedulers before."""
        self._restored = checkpoint.get(_KEY, {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the metrics, make the updates that followed the checkpoint, and begin the next epoch at its end."""
        state, self._restored = self._restored, {}
        begin_next_epoch(trainer)
        if not state:
            return
        metrics = trainer.callback_metrics
        metrics.update(state["metrics"])
        for config in trainer.lr_scheduler_configs if pl_module.automatic_optimization else ():
            count = state["due"][config.interval]  # of epochs, or of batches in the epoch
            if config.reduce_on_plateau and config.monitor in metrics and count and count % config.frequency == 0:
                pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the restart, so that Lightning makes the update that follows this hook."""
        end_restart(trainer)
