"""Check of the gradients on an accelerator, for which the host does not wait."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from psn_lightning.dynamics.gradients import list_gradients
from psn_lightning.nn.torch_private import handles_amp_scaling, hold_steps


class GradientCheck:
    """Finds the first optimizer step of a run whose gradient is not finite, without reading from the device.

    From that step on the optimizers change neither parameters nor moments, so that those before the step are still
    there when the host asks. Under DDP the averaged gradient is the same on all processes.

    Args:
        trainer: Trainer of the run, at its start.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        device = trainer.strategy.root_device
        self._first = trainer.global_step
        self._flag = torch.zeros((), dtype=torch.float32, device=device)  # 1 from the first broken gradient on
        self._sound = torch.zeros((), dtype=torch.int64, device=device)  # optimizer steps before that one
        self._optimizers = list(trainer.optimizers)
        for optimizer in self._optimizers:
            hold_steps(optimizer, self._flag)

    @staticmethod
    def suits(trainer: pl.Trainer) -> bool:
        """Return whether a run is on an accelerator and all its optimizers can be held, as fused ones can.

        Under 16-mixed they are held already: by the gradient scaler, whose steps of broken gradients are no divergence.
        """
        on_cpu = trainer.strategy.root_device.type == "cpu"
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        return not on_cpu and not scaled and all(map(handles_amp_scaling, trainer.optimizers))

    def note(self, optimizer: Optimizer) -> None:
        """Look at the gradients of an optimizer that is about to step."""
        gradients = [gradient for gradient in list_gradients(optimizer) if gradient.numel()]
        if gradients:  # an update in place of the step leaves none
            largest = get_total_norm(gradients, norm_type=math.inf)
            self._flag.masked_fill_(~torch.isfinite(largest), 1)
        self._sound += self._flag == 0

    def has_failed(self) -> Tensor:
        """Whether a gradient was not finite, a boolean scalar on the device."""
        return self._flag > 0

    def failed_step(self) -> int:
        """Optimizer step of the first gradient that was not finite; waits for the device."""
        return self._first + int(self._sound)

    def release(self) -> None:
        """Let the optimizers step again."""
        for optimizer in self._optimizers:
            hold_steps(optimizer, None)
