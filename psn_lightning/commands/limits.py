"""Settings that the Trainer would notice late or not at all, refused before a run begins."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from psn_lightning.errors import SettingError, compact
from psn_lightning.task import SparseClassifier

_LOWEST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
}
_PROCESSES_PER_CORE = 8


def check_trainer(trainer: Any, fits: bool) -> None:
    """Refuse what can be no run.

    Args:
        trainer: Settings of the Trainer.
        fits: Whether it is to train.

    Raises:
        SettingError: If one of them is too small or too large.
    """
    for name, lowest in _LOWEST.items():
        value = trainer.get(name)
        if value is not None and not value >= lowest:
            raise SettingError(f"trainer.{name} {value} must be at least {lowest}")
    for name in ("max_epochs", "max_steps"):
        if fits and trainer.get(name) == 0:
            raise SettingError(f"trainer.{name} 0 trains nothing: give at least 1, or use psn-train test")
    every = trainer.get("val_check_interval")
    if isinstance(every, int | float) and (every <= 0 or (isinstance(every, float) and every > 1)):
        raise SettingError(
            f"trainer.val_check_interval {every} must be a number of batches, or a share of an epoch up to 1.0"
        )
    _check_devices(trainer.get("devices"), str(trainer.get("accelerator")))


def check_optimizer(task: SparseClassifier) -> None:
    """Have optimizer and learning rate schedule refuse their arguments now; the Trainer makes them much later.

    Raises:
        SettingError: If they do.
    """
    try:
        made: Any = task.configure_optimizers()
        schedule = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
        if schedule is not None and not isinstance(schedule, ReduceLROnPlateau):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the optimizer's step before it is left out
                schedule.step()
    except (ValueError, TypeError, ArithmeticError) as error:
        raise SettingError(f"model.optimizer or model.lr_scheduler: {compact(error)}") from error


def _check_devices(devices: Any, accelerator: str) -> None:
    """Refuse more processes than a machine without GPUs can carry: each is a whole Python."""
    cores = os.cpu_count() or 1
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and str(devices).isdecimal() and int(devices) > _PROCESSES_PER_CORE * cores:
        raise SettingError(f"trainer.devices {devices}: this machine has {cores} cores; give as many at most")
