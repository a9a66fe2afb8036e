"""Ctrl-C and SIGTERM as a request that is answered between two optimizer steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers that a stop was asked for, on any of the run's processes.

    Lightning's own handler talks to the other processes from inside the handler, where each may be in the
    middle of another exchange; here the processes agree at the end of a batch.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take the signals over, where that is possible: in the main thread."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        rank_zero_info("\nStopping after this step; ask again to stop at once.")
        self._asked = True
        self.ignore()

    def ignore(self) -> None:
        """Give the signals back to whom they belonged; at a run's end Lightning may have done so before."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._before = {}

    def asked(self, trainer: pl.Trainer) -> bool:
        """Whether any process was asked; all of them must call it."""
        if trainer.world_size == 1:
            return self._asked
        return bool(trainer.strategy.reduce_boolean_decision(self._asked, all=False))
