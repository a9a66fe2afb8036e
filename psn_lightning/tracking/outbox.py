"""What is logged on its way: a spool, and the courier that empties it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from psn_lightning.errors import SettingError
from psn_lightning.files import not_written
from psn_lightning.tracking.courier import Courier
from psn_lightning.tracking.delivery import Delivery
from psn_lightning.tracking.spool import Spool, SpooledRun
from psn_lightning.tracking.store import Store

_PATIENCE_SECONDS = 60.0  # without progress, at the end of a run


class Outbox:
    """Takes what a run logs; it is on the disk when a call returns, and in the store some time later.

    Args:
        folder: Of the spool; what an earlier process has left there goes first.
        run: Whose it is.
        store: Where it goes.

    Raises:
        SettingError: If another process has the spool, or it cannot be written.
    """

    def __init__(self, folder: Path, run: SpooledRun, store: Store) -> None:
        self._store = store
        try:
            self._spool = Spool(folder, run)
        except OSError as error:
            raise _full(folder, error) from error
        self._courier = Courier(self._spool, Delivery(store, self._spool), store.check, store.shown)

    def put(self, what: str, **operation: Any) -> None:
        """Have something done to the run.

        Raises:
            SettingError: If the disk does not take it.
        """
        try:
            self._spool.append({"do": what, **operation})
        except OSError as error:
            raise _full(self._spool.folder, error) from error
        self._courier.wake()

    def put_files(self, folder: Path) -> None:
        """Have the files of a folder, and what links in it point to, as artifacts of the same relative path.

        Raises:
            SettingError: If the disk does not take them.
        """
        try:
            self._spool.add_files(folder)
        except OSError as error:
            raise _full(self._spool.folder, error) from error
        self._courier.wake()

    def close(self) -> None:
        """Wait until the store has everything, as long as it takes something; else say what is left."""
        done = self._courier.close(_PATIENCE_SECONDS)
        if not done:
            left = ", ".join(f"{count} {kind}" for kind, count in self._spool.left().items())
            rank_zero_warn(
                f"MLflow ({self._store.shown}) did not take {left} ({self._courier.reason}): it is kept in "
                f"{self._spool.folder}, and psn-train sync sends it"
            )
        self._spool.close(remove=done)


def _full(folder: Path, error: OSError) -> SettingError:
    return not_written(f"what the run logs, to {folder},", folder, error)
