"""Steps in which a task logs its training loss: logging every step would take as long as a small step."""

from __future__ import annotations

import lightning.pytorch as pl


class LossLog:
    """Tells in which steps the training loss is logged.

    At the Trainer's logging interval, at both ends of an epoch, in the first step also after a resume, before the
    Trainer stops, and in every step if a callback monitors the loss.
    """

    def __init__(self) -> None:
        self._is_monitored = self._has_begun = False

    def begin(self, trainer: pl.Trainer, name: str) -> None:
        """Begin a fit.

        Args:
            trainer: Trainer with its callbacks.
            name: Name of the loss.
        """
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        self._is_monitored = any(getattr(callback, "monitor", None) == name for callback in callbacks)
        self._has_begun = False

    def is_due(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Return whether to log the loss of this step, of which it is asked once.

        Args:
            trainer: Trainer of the fit.
            batch_idx: Number of the batch in the epoch.
        """
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = every > 0 and (trainer.global_step + 1) % every == 0
        first = batch_idx == 0 or not self._has_begun
        self._has_begun = True
        return due or first or self._is_monitored or trainer.should_stop or trainer.is_last_batch
