"""The best and the last checkpoint of a run."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier


class BestAndLast(ModelCheckpoint):
    """Keeps ``best.ckpt`` (by the accuracy that is evaluated after every epoch) and ``last.ckpt``.

    ``last.ckpt`` is written after every epoch, every ``every_n_steps`` steps, and where a run is asked to
    stop (Ctrl-C, SIGTERM): the step is finished first. A second Ctrl-C stops at once.

    Args:
        every_n_steps: Optimizer steps between further writes of ``last.ckpt`` within an epoch; None: none.

    Raises:
        SettingError: If it is not positive.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise SettingError(f"checkpoints.every_n_steps {every_n_steps} must be at least 1, or null")
        super().__init__(filename="best", save_last=True, mode="max", enable_version_counter=False)
        self.every_n_steps = every_n_steps
        self._saved_step = 0
        self._on_interrupt: Any = None

    @property
    def state_key(self) -> str:
        """One key whatever is watched: it is known only when the data are."""
        return "BestAndLast"

    def setup(self, trainer: pl.Trainer, pl_module: SparseClassifier, stage: str) -> None:  # type: ignore[override]
        """Choose what is watched; nothing where evaluation is off."""
        self.monitor = f"{pl_module.evaluation_split}/accuracy" if trainer.enable_validation else None
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Turn the first Ctrl-C into a request that Lightning answers between two steps."""
        super().on_train_start(trainer, pl_module)
        self._saved_step = trainer.global_step
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._on_interrupt = signal.signal(signal.SIGINT, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        rank_zero_info("\nStopping after this step; press Ctrl-C again to stop at once.")
        self._restore_interrupt()
        signal.raise_signal(signal.SIGTERM)

    def _restore_interrupt(self) -> None:
        if self._on_interrupt is not None:
            signal.signal(signal.SIGINT, self._on_interrupt)
            self._on_interrupt = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write ``last.ckpt`` where it is due; the end of an epoch has its own."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        step = trainer.global_step
        if self.every_n_steps and step - self._saved_step >= self.every_n_steps and _in_mid_epoch(trainer):
            self._save_last(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write ``last.ckpt`` where a stop was asked for; any other exception may have cut a step in two."""
        super().on_exception(trainer, pl_module, exception)
        if isinstance(exception, SIGTERMException) and trainer.training and _in_mid_epoch(trainer):
            self._save_last(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        self._restore_interrupt()

    def _save_last(self, trainer: pl.Trainer) -> None:
        assert self.dirpath is not None
        self._saved_step = trainer.global_step
        self.last_model_path = str(Path(self.dirpath) / f"{self.CHECKPOINT_NAME_LAST}{self.FILE_EXTENSION}")
        trainer.save_checkpoint(self.last_model_path, weights_only=False)


def _in_mid_epoch(trainer: pl.Trainer) -> bool:
    """Whether batches of the epoch are left, and no micro-batches are waiting for their optimizer step."""
    loop = trainer.fit_loop.epoch_loop
    return loop.batch_progress.current.ready < trainer.num_training_batches and not loop._should_accumulate()
