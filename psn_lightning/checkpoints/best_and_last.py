"""Best and last checkpoint of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning.callbacks.lightning_private import is_accumulating
from psn_lightning.callbacks.steps import count_total_steps
from psn_lightning.checkpoints.durable import keep_copy
from psn_lightning.checkpoints.signals import StopRequest
from psn_lightning.errors import SettingError

_LOW = ("loss", "err", "mse", "mae", "nll", "perplex", "ppl", "bits")
"""Parts of the names of metrics of which smaller values are better."""

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
"""File names of the checkpoints of a run."""


class BestAndLast(ModelCheckpoint):
    """Saves the checkpoints ``best.ckpt``, ``last.ckpt`` and ``previous.ckpt``.

    ``best.ckpt`` is the checkpoint with the best value of a metric that is evaluated after every epoch; where the
    sparsity changes, it is the latest one until the network has its final sparsity. ``last.ckpt``
    is written after every epoch, every ``every_n_steps`` optimizer steps, and at the end of a run that stops within an
    epoch by ``max_steps``, ``max_time`` or a stop signal (Ctrl-C, SIGTERM); always between two optimizer steps. A
    second Ctrl-C stops immediately. ``previous.ckpt`` is the ``last.ckpt`` before the present one.

    Args:
        every_n_steps: Optimizer steps between writes of ``last.ckpt`` within an epoch; None writes after epochs only.
        monitor: Metric for ``best.ckpt``. By default the accuracy of :class:`SparseClassifier`; for other modules the
            first metric with ``val`` and ``acc`` in its name, or else with ``val`` and the name of a loss or error.
        mode: Whether the largest (max) or the smallest (min) value is the best. By default min if the name contains
            loss, err, mse, mae, nll, perplex, ppl or bits, and max otherwise.

    Raises:
        SettingError: If ``every_n_steps`` is below 1.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise SettingError(f"every_n_steps {every_n_steps} is below 1: use None to save after epochs only")
        # Lightning's own last.ckpt is only written when the best checkpoint changes.
        super().__init__(filename="best", save_last=False, mode="max", enable_version_counter=False)
        self.every_n_steps = every_n_steps
        self._wanted, self._wanted_mode = monitor, mode
        self._stop = StopRequest()
        self._saved_step = 0
        self._has_warned = False
        self._was_denser = False

    @property
    def state_key(self) -> str:
        """Key of this callback in checkpoints; without the monitor, which may be chosen after the first epoch."""
        return "BestAndLast"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the length of the run, and choose the metric to monitor; none if evaluation is off.

        Raises:
            SettingError: If the Trainer's arguments do not fit the number of batches.
        """
        if stage == "fit":
            count_total_steps(trainer)  # reports wrong arguments of the Trainer before the run starts
        split = getattr(pl_module, "evaluation_split", None)
        usual = f"{split}/accuracy" if isinstance(split, str) else None
        self._set_monitor((self._wanted or usual) if trainer.enable_validation else None)
        super().setup(trainer, pl_module, stage)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the metric to monitor after the first evaluation, if it is not known yet."""
        if self.monitor is None and not trainer.sanity_checking:
            self._set_monitor(_choose_metric(trainer.callback_metrics))
            if self.monitor is None and not self._has_warned:
                self._has_warned = True
                rank_zero_warn(
                    f"no logged metric ranks the checkpoints, {BEST} will be the latest one: set monitor to a metric"
                )
        if not trainer.sanity_checking:
            self._forget_denser(trainer)
        super().on_validation_end(trainer, pl_module)

    def _forget_denser(self, trainer: pl.Trainer) -> None:
        """Let the present evaluation be the best so far, if the one before it was of a denser network."""
        if self._was_denser:
            self.best_k_models, self.best_model_score = {}, None
            self._set_monitor(self.monitor)
        self._was_denser = any(not getattr(callback, "is_at_target", True) for callback in trainer.callbacks)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """State of Lightning's callback, and whether the network of the last evaluation was denser than at the end."""
        return {**super().state_dict(), "was_denser": self._was_denser}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of :meth:`state_dict`."""
        self._was_denser = state_dict["was_denser"]
        super().load_state_dict(state_dict)

    def _set_monitor(self, monitor: str | None) -> None:
        self.monitor = monitor
        low = monitor is not None and any(word in monitor.lower() for word in _LOW)
        self.mode = self._wanted_mode or ("min" if low else "max")
        if not self.best_k_models:
            self.kth_value = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the evaluation interval, remove incomplete files, and listen for stop signals.

        Raises:
            SettingError: If an evaluation would fall between two micro-batches of one optimizer step.
        """
        super().on_train_start(trainer, pl_module)
        every, accumulated = trainer.val_check_batch, trainer.accumulate_grad_batches
        if trainer.enable_validation and every and every < trainer.num_training_batches and every % accumulated:
            raise SettingError(
                f"val_check_interval {trainer.val_check_interval} ({every} batches) is not a multiple of "
                f"accumulate_grad_batches {accumulated}: checkpoints between two optimizer steps need one"
            )
        self._saved_step = trainer.global_step
        if trainer.is_global_zero and self.dirpath is not None:
            for unfinished in Path(self.dirpath).glob(f".*{self.FILE_EXTENSION}"):
                unfinished.unlink()  # left by a process that was killed while writing
        self._stop.listen(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch if a save is due or the run stops; ``on_train_epoch_end`` saves at the end of an epoch.

        Raises:
            SIGTERMException: If a stop was requested.
        """
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        stop, step = self._stop.is_requested(trainer), trainer.global_step
        if is_accumulating(trainer) or not has_batches_left(trainer):
            return
        due = self.every_n_steps and step - self._saved_step >= self.every_n_steps
        if stop or due or trainer.should_stop or step == trainer.max_steps:
            self._save_last(trainer)
        if stop:
            raise self._make_stop_exception(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after every complete epoch.

        Raises:
            SIGTERMException: If a stop was requested.
        """
        super().on_train_epoch_end(trainer, pl_module)
        if has_batches_left(trainer):
            return  # the run stops within the epoch; on_train_batch_end has saved
        self._save_last(trainer)
        if self._stop.is_requested(trainer, exchange=True):
            raise self._make_stop_exception(trainer)

    def _make_stop_exception(self, trainer: pl.Trainer) -> SIGTERMException:
        return SIGTERMException(f"stopped at step {trainer.global_step}; resume with ckpt_path {self.last_model_path}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handlers."""
        super().on_exception(trainer, pl_module, exception)
        self._stop.stop_listening(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the previous signal handlers."""
        self._stop.stop_listening(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        """Write ``last.ckpt``, and keep the present one as ``previous.ckpt``."""
        assert self.dirpath is not None
        self._saved_step = trainer.global_step
        last = Path(self.dirpath) / LAST
        self.last_model_path = str(last)
        if trainer.is_global_zero and last.exists():
            keep_copy(last, PREVIOUS)
        trainer.save_checkpoint(last, weights_only=False)


def _choose_metric(names: Iterable[str]) -> str | None:
    """Choose a validation metric to monitor: an accuracy, or else a loss or error; None if there is neither."""
    validated = [name for name in names if "val" in name.lower()]
    return next((name for word in ("acc", *_LOW) for name in validated if word in name.lower()), None)


def has_batches_left(trainer: pl.Trainer) -> bool:
    """Return whether the epoch has further batches."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.current.ready < trainer.num_training_batches and not progress.is_last_batch
