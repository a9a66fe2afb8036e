"""Callbacks and settings that every Trainer of ``psn-train`` has, and checks of its arguments."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelSummary, ProgressBar

from psn_lightning.callbacks import (
    EpochTimer,
    EquilibriumMonitor,
    ExplorationMonitor,
    GradientRatio,
    LastEvaluation,
    MaskReapply,
    MixtureLogger,
    Progress,
    TopologyLogger,
    TrainingCost,
)
from psn_lightning.checkpoints import BestAndLast, ExactRestart, GeneratorState, OptimizerSettings, PortableMoments
from psn_lightning.commands.run_record import RunRecord
from psn_lightning.commands.summary import LayerTable
from psn_lightning.errors import SettingError

_LOWEST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "gradient_clip_val": 0}
_PROCESSES_PER_CORE = 8
_HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


def furnish(
    config: dict[str, Any], callbacks: list[pl.Callback], changed: Collection[str], evaluation: LastEvaluation
) -> None:
    """Add the callbacks that every run has, except those that the configuration turns off.

    Args:
        config: Arguments of the Trainer; changed in place.
        callbacks: Callbacks of the configuration; extended in place.
        changed: Names of settings that differ from those of the run that is continued.
        evaluation: Callback that records the step of the last evaluation.
    """
    if config.get("enable_checkpointing") is False:
        callbacks[:] = [callback for callback in callbacks if not isinstance(callback, BestAndLast)]
    bare = config.get("barebones") is True  # Lightning's own mode to measure its loop in; it refuses both
    has_bar = config.get("enable_progress_bar") is False or any(isinstance(c, ProgressBar) for c in callbacks)
    if not bare and not has_bar:
        callbacks.append(Progress())
    has_summary = config.get("enable_model_summary") is False or any(isinstance(c, ModelSummary) for c in callbacks)
    if not bare and not has_summary:
        callbacks.append(LayerTable())
    checkpoints = next((callback for callback in callbacks if isinstance(callback, BestAndLast)), None)
    topology, equilibrium = TopologyLogger(), EquilibriumMonitor()
    callbacks += [
        MaskReapply(),
        PortableMoments(),
        GradientRatio(),
        topology,
        TrainingCost(),
        equilibrium,
        ExplorationMonitor(),
        MixtureLogger(),
        EpochTimer(),
        evaluation,
        GeneratorState(),
        ExactRestart(),
        OptimizerSettings(changed),
        RunRecord(topology, equilibrium, checkpoints),
    ]


def skip_empty_hooks(callbacks: Iterable[pl.Callback]) -> None:
    """Take the hooks of a step off callbacks that do nothing there.

    The Trainer passes over a hook that cannot be called. Else a step of Fashion-MNIST at 98% takes 7% longer (2.13
    instead of 1.99 ms, ``benchmarks/trainer_patches.py``, 2 cores, 1 thread, 2026-11-25). Others' callbacks are left
    alone.
    """
    for callback in callbacks:
        ours = type(callback).__module__.split(".")[0] in {"psn_lightning", "lightning"}
        for name in _HOOKS_OF_A_STEP if ours else ():
            if getattr(getattr(callback, name), "__func__", None) is getattr(pl.Callback, name):
                setattr(callback, name, None)


def check_trainer(trainer: Any, fits: bool) -> None:
    """Refuse settings that Lightning accepts and then divides by, ignores, or freezes the machine with.

    Args:
        trainer: Settings of the Trainer.
        fits: Whether the Trainer is to train.

    Raises:
        SettingError: If a setting is out of range.
    """
    for name, lowest in _LOWEST.items():
        value = trainer[name]
        if value is not None and not value >= lowest:
            raise SettingError(f"trainer.{name} {value} must be at least {lowest}")
    if fits and 0 in (trainer["max_epochs"], trainer["max_steps"]):
        raise SettingError("trainer.max_epochs 0 or trainer.max_steps 0 trains nothing: give at least 1, or use test")
    if fits and trainer["limit_train_batches"] == 0:
        raise SettingError("trainer.limit_train_batches 0 trains nothing: give batches, or a fraction of an epoch")
    if trainer["val_check_interval"] == 0:
        raise SettingError("trainer.val_check_interval 0 never evaluates: give batches, or a fraction of an epoch")
    if fits and trainer["precision"] == "16-true":
        raise SettingError(
            "trainer.precision 16-true cannot train: the second moments of Adam underflow within a few steps; use "
            "bf16-true, bf16-mixed or 16-mixed"
        )
    devices, cores, on_cpu = trainer["devices"], os.cpu_count() or 1, runs_on_cpu(trainer["accelerator"])
    if on_cpu and str(devices).isdecimal() and int(devices) > _PROCESSES_PER_CORE * cores:
        raise SettingError(f"trainer.devices {devices}: this machine has {cores} cores; use at most as many devices")
    if devices == "auto" and not on_cpu and (n := torch.accelerator.device_count()) > 1:
        raise SettingError(
            f"trainer.devices auto would use {n} devices, each with a batch of its own: set it to 1, or to {n} with a "
            f"data.init_args.batch_size of one {n}th for the same batch in all"
        )


def runs_on_cpu(accelerator: str) -> bool:
    """Return whether Lightning will compute on the CPU.

    Args:
        accelerator: Setting ``trainer.accelerator``.
    """
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def ask_for_accelerators_once() -> None:
    """Have torch's optimizers not look for a GPU's driver library in every step where there is none.

    Lightning sets the variable so that processes can be forked after the question was asked. With it a step of
    Fashion-MNIST at 98% takes 6% longer (2.12 instead of 1.99 ms, ``benchmarks/trainer_patches.py``, see above).
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
