"""Flags of a run that are combined over all processes in one exchange."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

_DEFAULT_INTERVAL = 50  # steps between two exchanges on an accelerator where log_every_n_steps is 0


class AgreedFlags(NamedTuple):
    """Flags combined over all processes: True if at least one process has raised the flag."""

    diverged: bool
    """Whether a loss or a gradient was not finite."""
    stop: bool
    """Whether a process was asked to stop."""


class Flags:
    """Flags of this process: a loss or gradient that is not finite, and a request to stop.

    On the CPU the flags are exchanged in every step. Reading a value from an accelerator waits for the device and costs
    more than a step on sparse weights saves: there the flags are collected on the device, and exchanged every
    ``log_every_n_steps`` steps.
    """

    def __init__(self) -> None:
        self._diverged: Tensor | None = None
        self.stop = False
        """Whether this process was asked to stop."""
        self.agreed = AgreedFlags(False, False)
        """Result of the latest exchange."""
        self.guarded = False
        """Whether a :class:`NumericalGuard` calls :meth:`exchange` in every step in which it is due."""

    def note(self, diverged: Tensor) -> None:
        """Raise the divergence flag if a boolean scalar is True, without waiting for the device."""
        self._diverged = diverged if self._diverged is None else self._diverged | diverged

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether the flags are exchanged in this step."""
        every = trainer.log_every_n_steps or _DEFAULT_INTERVAL  # type: ignore[attr-defined]
        on_cpu = trainer.strategy.root_device.type == "cpu"
        return on_cpu or trainer.is_last_batch or (trainer.global_step + 1) % every == 0

    def exchange(self, trainer: pl.Trainer) -> AgreedFlags:
        """Combine the flags of all processes; every process has to call this method in the same step."""
        device = trainer.strategy.root_device
        diverged = torch.zeros((), dtype=torch.bool, device=device) if self._diverged is None else self._diverged
        self._diverged = None
        if trainer.world_size == 1:
            self.agreed = AgreedFlags(bool(diverged), self.stop)
            return self.agreed
        raised = torch.stack([diverged, torch.tensor(self.stop, device=device)]).to(torch.int32)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        self.agreed = AgreedFlags(*map(bool, raised.tolist()))
        return self.agreed


_flags: WeakKeyDictionary[pl.Trainer, Flags] = WeakKeyDictionary()


def flags_of(trainer: pl.Trainer) -> Flags:
    """Return the flags that all callbacks of a trainer share."""
    return _flags.setdefault(trainer, Flags())
