"""Private names of Lightning that this package uses, as typed functions; one place to adapt to a new version."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.core.optimizer import _configure_optimizers
from torch.optim import Optimizer

_BROADCAST = "_broadcast_sigterm_tensor"


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Return whether the present batch only adds to the gradient, without an optimizer step."""
    return trainer.fit_loop._should_accumulate()


def get_average_model(callback: pl.Callback) -> object | None:
    """Return the averaged copy that ``WeightAveraging`` or ``StochasticWeightAveraging`` keeps; None for others."""
    average: object | None = getattr(callback, "_average_model", None)
    return average


def stop_broadcasting_sigterm(trainer: pl.Trainer) -> None:
    """Stop Lightning from broadcasting in every step whether it has received SIGTERM, and from waiting for the answer.

    For runs whose processes agree on a stop themselves. Ends with :func:`resume_broadcasting_sigterm`.
    """
    setattr(trainer.fit_loop.epoch_loop, _BROADCAST, lambda: None)


def resume_broadcasting_sigterm(trainer: pl.Trainer) -> None:
    """Undo :func:`stop_broadcasting_sigterm`, if it was called."""
    loop = trainer.fit_loop.epoch_loop
    if _BROADCAST in vars(loop):
        delattr(loop, _BROADCAST)


def list_optimizers(configured: Any) -> list[Optimizer]:
    """Return the optimizers in a return value of ``LightningModule.configure_optimizers``, whatever its form."""
    optimizers, *_ = _configure_optimizers(configured)
    return list(optimizers)


def log_step_metrics(trainer: pl.Trainer) -> None:
    """Send the metrics of the present step to the loggers now, unless Lightning has done so after the step's hooks."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    if progress.completed < progress.processed:
        trainer._logger_connector.update_train_step_metrics()


def end_restart(trainer: pl.Trainer) -> None:
    """Let the rest of an iteration of the loops be as in a run that has not gone on from a checkpoint."""
    loop: Any = trainer.fit_loop
    loop._restarting = False  # the property stays True where max_steps is given
    loop.reset_restart_stage()
    loop.epoch_loop.restarting = False
    loop.epoch_loop.reset_restart_stage()


def begin_next_epoch(trainer: pl.Trainer) -> None:
    """Let a run that goes on from a checkpoint between two epochs begin with the next one; for ``on_train_start``."""
    loop: Any = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
    if loop.restarted_on_epoch_end or not loop.epoch_loop.batch_progress.total.ready:
        end_restart(trainer)
