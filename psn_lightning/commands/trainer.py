"""What every Trainer gets here, whatever the configuration."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.profilers import PassThroughProfiler

from psn_lightning.callbacks import (
    EpochTimer,
    EquilibriumMonitor,
    GradientRatio,
    LastEvaluation,
    MaskReapply,
    Progress,
    TopologyLogger,
)
from psn_lightning.checkpoints import BestAndLast, GeneratorState, OptimizerSettings, PortableMoments
from psn_lightning.commands.run_record import RunRecord

_HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class NoProfiler(PassThroughProfiler):
    """What the Trainer asks a hundred times a step, answered at once."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """Nothing to measure."""
        return self._nothing


def furnish(
    config: dict[str, Any], callbacks: list[pl.Callback], changed: Collection[str], evaluation: LastEvaluation
) -> None:
    """Add what every run has to a Trainer's settings and callbacks, less what the configuration turns off.

    Args:
        config: The Trainer's arguments.
        callbacks: Those of the configuration.
        changed: Configuration keys that differ from those of the run that goes on.
        evaluation: Takes down when the weights are evaluated.
    """
    if config.get("enable_checkpointing") is False:
        callbacks[:] = [callback for callback in callbacks if not isinstance(callback, BestAndLast)]
    bare = config.get("barebones") is True  # Lightning's own mode to measure its loop in; it refuses both
    has_bar = config.get("enable_progress_bar") is False or any(isinstance(c, ProgressBar) for c in callbacks)
    if not bare and not has_bar:
        callbacks.append(Progress())
    if not bare and config.get("profiler") is None:
        config["profiler"] = NoProfiler()
    checkpoints = next((callback for callback in callbacks if isinstance(callback, BestAndLast)), None)
    topology, equilibrium = TopologyLogger(), EquilibriumMonitor()
    callbacks += [
        MaskReapply(),
        PortableMoments(),
        GradientRatio(),
        topology,
        equilibrium,
        EpochTimer(),
        evaluation,
        GeneratorState(),
        OptimizerSettings(changed),
        RunRecord(topology, equilibrium, checkpoints),
    ]


def skip_empty_hooks(callbacks: Iterable[pl.Callback]) -> None:
    """Take the hooks of a step off callbacks that do nothing there.

    The Trainer passes over a hook that cannot be called; else it spends a microsecond on each, a hundred in a step.
    Others' callbacks are left alone.
    """
    for callback in callbacks:
        ours = type(callback).__module__.split(".")[0] in {"psn_lightning", "lightning"}
        for name in _HOOKS_OF_A_STEP if ours else ():
            if getattr(getattr(callback, name), "__func__", None) is getattr(pl.Callback, name):
                setattr(callback, name, None)


def ask_for_accelerators_once() -> None:
    """Have torch's optimizers not look for a GPU's driver library in every step where there is none.

    Lightning sets the variable so that processes can be forked after the question was asked.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
