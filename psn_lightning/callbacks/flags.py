"""Flags on which all processes of a run agree, in one exchange."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

_USUAL_INTERVAL = 50  # steps between two looks at an accelerator's flags, where nothing is logged


class Agreed(NamedTuple):
    """What at least one process has raised."""

    diverged: bool
    stop: bool


class Flags:
    """A loss that is not finite, and the wish to stop, of any process.

    On the CPU they are exchanged in every step. To read a value of an accelerator costs more than a step on sparse
    weights saves: there they are collected on the device, and read and exchanged every ``log_every_n_steps`` steps.
    """

    def __init__(self) -> None:
        self._diverged: Tensor | None = None
        self.stop = False
        """Whether this process was asked to stop."""
        self.agreed = Agreed(False, False)
        """The result of the latest exchange."""
        self.guarded = False
        """Whether a :class:`NumericalGuard` exchanges them in every step in which it is due."""

    def note_loss(self, loss: Tensor) -> None:
        """Raise the flag of divergence where the loss is not finite; the host does not wait for it."""
        broken = ~torch.isfinite(loss.detach()).all()
        self._diverged = broken if self._diverged is None else self._diverged | broken

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Whether the flags are exchanged in this step."""
        every = trainer.log_every_n_steps or _USUAL_INTERVAL  # type: ignore[attr-defined]
        on_cpu = trainer.strategy.root_device.type == "cpu"
        return on_cpu or trainer.is_last_batch or (trainer.global_step + 1) % every == 0

    def exchange(self, trainer: pl.Trainer) -> Agreed:
        """Compare the flags of all processes; each of them must call it."""
        device = trainer.strategy.root_device
        diverged = torch.zeros((), dtype=torch.bool, device=device) if self._diverged is None else self._diverged
        self._diverged = None
        if trainer.world_size == 1:
            self.agreed = Agreed(bool(diverged), self.stop)
            return self.agreed
        raised = torch.stack([diverged, torch.tensor(self.stop, device=device)]).to(torch.int32)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        self.agreed = Agreed(*map(bool, raised.tolist()))
        return self.agreed


_flags: WeakKeyDictionary[pl.Trainer, Flags] = WeakKeyDictionary()


def flags_of(trainer: pl.Trainer) -> Flags:
    """The flags that the callbacks of a trainer share."""
    return _flags.setdefault(trainer, Flags())
