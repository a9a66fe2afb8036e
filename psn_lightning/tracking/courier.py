"""Delivers while the run goes on: a store that is slow or away slows nothing and stops nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lightning.pytorch.utilities import rank_zero_info

from psn_lightning.errors import in_one_line
from psn_lightning.tracking.delivery import Delivery
from psn_lightning.tracking.spool import Spool

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0  # seconds between tries; each is twice the one before


class Courier:
    """A thread that brings a spool's operations into the store, one after the other.

    Args:
        spool: The spool.
        delivery: Does its operations.
        check: Raises where the store is away; quicker to ask than to try.
        name: How messages call the store.
    """

    def __init__(self, spool: Spool, delivery: Delivery, check: Callable[[], None], name: str) -> None:
        self._spool = spool
        self._delivery = delivery
        self._check = check
        self._name = name
        self._progress = time.monotonic()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self.reason: str | None = None
        """Why the last try failed; None after one that did not."""
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tell it that there is something to deliver."""
        self._wake.set()

    def close(self, patience: float) -> bool:
        """Have the rest delivered.

        Args:
            patience: Seconds without any progress after which it is given up, unless the store answers: a large
                file may take longer.

        Returns:
            Whether the store has everything.
        """
        self._progress = time.monotonic()
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and (time.monotonic() - self._progress < patience or self._is_taking()):
            self._thread.join(0.05)
        self._given_up.set()
        self._wake.set()
        return not self._thread.is_alive() and self._spool.empty

    def _is_taking(self) -> bool:
        """Whether an operation is under way with a store that answers."""
        if self.reason is not None:
            return False
        try:
            self._check()
        except Exception as error:
            self.reason = in_one_line(error)
            return False
        self._progress = time.monotonic()
        return True

    def _work(self) -> None:
        while not (self._closing.is_set() and self._spool.empty) and not self._given_up.is_set():
            self._wake.wait()
            self._wake.clear()
            self._deliver()

    def _deliver(self) -> None:
        """Bring everything there is; where the store is away, try until it is back."""
        pause = _FIRST_PAUSE
        while not self._spool.empty and not self._given_up.is_set():
            try:
                if self.reason is not None:
                    self._check()
                if not self._delivery.next():
                    return
                self._progress, pause = time.monotonic(), _FIRST_PAUSE
                self._tell(None)
            except Exception as error:  # whatever it is, the run goes on and nothing is lost
                self._tell(in_one_line(error))
                if self._closing.wait(pause):
                    time.sleep(_FIRST_PAUSE)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _tell(self, reason: str | None) -> None:
        """Say that the store went away, or came back."""
        if reason is not None and self.reason is None:
            rank_zero_info(
                f"MLflow ({self._name}) does not take what is logged ({reason}). The run goes on; all is kept in "
                f"{self._spool.folder} until it does"
            )
        elif reason is None and self.reason is not None:
            rank_zero_info(f"MLflow ({self._name}) is back")
        self.reason = reason
