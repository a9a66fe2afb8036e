"""Ctrl-C and SIGTERM as a request that is answered between two optimizer steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from psn_lightning.callbacks.flags import Agreed, Flags, flags_of

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers that a stop was asked for, on any of the run's processes.

    Lightning's own handler talks to the other processes from inside the handler, where each may be in the
    middle of another exchange; here the processes agree at the end of a batch.
    """

    def __init__(self) -> None:
        self._flags: Flags | None = None
        self._before: dict[signal.Signals, Any] = {}

    def listen(self, trainer: pl.Trainer) -> None:
        """Take the signals over, where that is possible: in the main thread."""
        self._flags = flags_of(trainer)
        self._flags.stop, self._flags.agreed = False, Agreed(False, False)
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        rank_zero_info("\nStopping after this step; ask again to stop at once.")
        if self._flags is not None:
            self._flags.stop = True
        self.ignore()

    def ignore(self) -> None:
        """Give the signals back to whom they belonged; at a run's end Lightning may have done so before."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._before = {}

    def asked(self, trainer: pl.Trainer, exchange: bool = False) -> bool:
        """Whether any process was asked to stop; all of them must call it.

        Args:
            trainer: Of the run.
            exchange: Whether to compare the processes' flags now; else what :class:`NumericalGuard` found in the step
                that has just ended, where there is one.
        """
        flags = flags_of(trainer)
        if trainer.world_size == 1:
            return flags.stop
        if exchange or (not flags.guarded and flags.is_due(trainer)):
            flags.exchange(trainer)
        return flags.agreed.stop
