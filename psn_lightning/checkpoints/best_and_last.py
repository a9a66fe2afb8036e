"""The best and the last checkpoint of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning.callbacks.steps import total_steps
from psn_lightning.checkpoints.durable import keep
from psn_lightning.checkpoints.signals import StopRequest
from psn_lightning.errors import SettingError

_LOW = ("loss", "err", "mse", "mae", "nll", "perplex", "ppl", "bits")
"""Parts of the names of metrics that are better the smaller they are."""

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
"""The checkpoints of a run."""


class BestAndLast(ModelCheckpoint):
    """Keeps ``best.ckpt`` (by a metric that is evaluated after every epoch) and ``last.ckpt``.

    ``last.ckpt`` is written after every epoch, every ``every_n_steps`` steps, and where a run ends within an
    epoch, be it by ``max_steps``, by ``max_time`` or because it is asked to stop (Ctrl-C, SIGTERM): always
    between two optimizer steps. A second Ctrl-C stops at once. The one before it is ``previous.ckpt``.

    Args:
        every_n_steps: Optimizer steps between further writes of ``last.ckpt`` within an epoch; None: none.
        monitor: Metric that decides which checkpoint is the best. None: the accuracy of :class:`SparseClassifier`; of
            other modules the first metric with ``val`` and ``acc`` in its name, else with ``val`` and a loss or error.
        mode: Whether the largest (max) or the smallest (min) value is the best; None: min for a loss or an error
            (loss, err, mse, mae, nll, perplexity, bits).

    Raises:
        SettingError: If the interval is not positive.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise SettingError(f"every_n_steps {every_n_steps} must be at least 1, or null")
        # Lightning would write its last.ckpt only where the best one changes as well.
        super().__init__(filename="best", save_last=False, mode="max", enable_version_counter=False)
        self.every_n_steps = every_n_steps
        self._wanted, self._wanted_mode = monitor, mode
        self._stop = StopRequest()
        self._saved_step = 0
        self._has_warned = False

    @property
    def state_key(self) -> str:
        """One key whatever is watched: it is known only when the data are."""
        return "BestAndLast"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Choose what is watched; nothing where evaluation is off."""
        if stage == "fit":
            total_steps(trainer)  # what cannot be is refused before a run begins
        split = getattr(pl_module, "evaluation_split", None)
        usual = f"{split}/accuracy" if isinstance(split, str) else None
        self._watch((self._wanted or usual) if trainer.enable_validation else None)
        super().setup(trainer, pl_module, stage)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose among the metrics of a module that is not ours, once they are known."""
        if self.monitor is None and not trainer.sanity_checking:
            self._watch(_usual_metric(trainer.callback_metrics))
            if self.monitor is None and not self._has_warned:
                self._has_warned = True
                rank_zero_warn(
                    "no metric says which checkpoint is the best, so best.ckpt is the last one: give monitor"
                )
        super().on_validation_end(trainer, pl_module)

    def _watch(self, monitor: str | None) -> None:
        self.monitor = monitor
        low = monitor is not None and any(word in monitor.lower() for word in _LOW)
        self.mode = self._wanted_mode or ("min" if low else "max")
        if not self.best_k_models:
            self.kth_value = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for requests to stop; refuse to save between two micro-batches."""
        super().on_train_start(trainer, pl_module)
        every, accumulated = trainer.val_check_batch, trainer.accumulate_grad_batches
        if trainer.enable_validation and every and every < trainer.num_training_batches and every % accumulated:
            raise SettingError(
                f"val_check_interval {trainer.val_check_interval} evaluates after {every} batches, within the "
                f"{accumulated} whose gradients are accumulated: give a multiple of accumulate_grad_batches"
            )
        self._saved_step = trainer.global_step
        if trainer.is_global_zero and self.dirpath is not None:
            for unfinished in Path(self.dirpath).glob(f".*{self.FILE_EXTENSION}"):
                unfinished.unlink()  # a process that was killed was writing it
        self._stop.listen(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due and the epoch goes on; its end has its own."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        stop, step = self._stop.asked(trainer), trainer.global_step
        if trainer.fit_loop._should_accumulate() or not _batches_are_left(trainer):
            return
        due = self.every_n_steps and step - self._saved_step >= self.every_n_steps
        if stop or due or trainer.should_stop or step == trainer.max_steps:
            self._save_last(trainer)
        if stop:
            raise self._stopped(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after every epoch that has come to its end."""
        super().on_train_epoch_end(trainer, pl_module)
        if _batches_are_left(trainer):
            return  # stopped within the epoch, and saved there
        self._save_last(trainer)
        if self._stop.asked(trainer, exchange=True):
            raise self._stopped(trainer)

    def _stopped(self, trainer: pl.Trainer) -> SIGTERMException:
        return SIGTERMException(
            f"stopped at step {trainer.global_step}; the same command with --ckpt_path {self.last_model_path} goes on"
        )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        super().on_exception(trainer, pl_module, exception)
        self._stop.ignore()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._stop.ignore()

    def _save_last(self, trainer: pl.Trainer) -> None:
        """Write it; the one before becomes ``previous.ckpt``."""
        assert self.dirpath is not None
        self._saved_step = trainer.global_step
        last = Path(self.dirpath) / LAST
        self.last_model_path = str(last)
        if trainer.is_global_zero and last.exists():
            keep(last, PREVIOUS)
        trainer.save_checkpoint(last, weights_only=False)


def _usual_metric(names: Iterable[str]) -> str | None:
    """The metric that most people would watch."""
    validated = [name for name in names if "val" in name.lower()]
    return next((name for word in ("acc", *_LOW) for name in validated if word in name.lower()), None)


def _batches_are_left(trainer: pl.Trainer) -> bool:
    """Whether the epoch is not at its end."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.current.ready < trainer.num_training_batches and not progress.is_last_batch
