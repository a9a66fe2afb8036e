"""Ctrl-C and SIGTERM as a request to stop between two optimizer steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from psn_lightning.callbacks.flags import AgreedFlags, Flags, flags_of
from psn_lightning.callbacks.lightning_private import resume_broadcasting_sigterm, stop_broadcasting_sigterm

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Request to stop the run, made by a signal to any of its processes.

    Lightning's own handler communicates with the other processes while each of them may be in the middle of another
    collective operation; here the processes exchange the request at the end of a batch. So with several processes that
    handler stays away also after the first SIGTERM: schedulers send several.
    """

    def __init__(self) -> None:
        self._flags: Flags | None = None
        self._is_shared = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self, trainer: pl.Trainer) -> None:
        """Replace the handlers of SIGINT and SIGTERM, if called in the main thread, which Python requires.

        Args:
            trainer: Trainer of the run.
        """
        self._flags, self._is_shared = flags_of(trainer), trainer.world_size > 1
        self._flags.stop, self._flags.agreed = False, AgreedFlags(False, False)
        if self._is_shared:
            stop_broadcasting_sigterm(trainer)
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._handle_signal) for number in _SIGNALS}

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        rank_zero_info("\nStopping after this step; press Ctrl-C again to stop immediately.")
        if self._flags is not None:
            self._flags.stop = True
        self._restore((signal.SIGINT,) if self._is_shared else _SIGNALS)

    def stop_listening(self, trainer: pl.Trainer) -> None:
        """Restore the previous handlers, except where Lightning has already restored them.

        Args:
            trainer: Trainer of the run.
        """
        resume_broadcasting_sigterm(trainer)
        self._restore(_SIGNALS)

    def _restore(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            if number in self._before and signal.getsignal(number) == self._handle_signal:
                signal.signal(number, self._before[number])
            self._before.pop(number, None)

    def is_requested(self, trainer: pl.Trainer, exchange: bool = False) -> bool:
        """Return whether any process was asked to stop; every process has to call this method in the same step.

        Args:
            trainer: Trainer of the run.
            exchange: Whether to exchange the flags of the processes now. Otherwise the exchange of a
                :class:`NumericalGuard` in this step is used, if there is one.
        """
        flags = flags_of(trainer)
        if trainer.world_size == 1:
            return flags.stop
        if exchange or (not flags.guarded and flags.is_due(trainer)):
            flags.exchange(trainer)
        return flags.agreed.stop
