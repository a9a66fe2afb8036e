"""Sinks of what a run logs: a local store, which is written at once; for servers see sender.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch.utilities import rank_zero_warn
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import not_written
from psn_lightning.tracking.causes import disk_error, is_locked, root_cause
from psn_lightning.tracking.store import Store
from psn_lightning.tracking.writer import Kind, RunWriter

_LOCK_SECONDS = 60.0  # other runs may write to the same database first
_PAUSE_SECONDS = 0.2


class Sink(Protocol):
    """Takes the operations of a run; a kill after a call does not lose them.

    Raises:
        SettingError: If they cannot be written.
    """

    def put(self, kind: Kind, **content: Any) -> None:
        """Take an operation: the name of a method of :class:`RunWriter`, and its arguments."""

    def put_file(self, path: Path, folder: Path) -> None:
        """Take a file, as it is now, as an artifact in a relative folder."""

    def put_model(self, archive: Path, **content: Any) -> None:
        """Take a model, packed into a file, and the other arguments of :meth:`RunWriter.model`."""

    def close(self, was_away: bool = False) -> None:
        """Wait until the store has every operation; if it is away, say what it lacks.

        Args:
            was_away: Whether an earlier wait was in vain: then this one is short.
        """


class LocalSink(Sink):
    """Writes to a local store at once.

    Args:
        store: Local store.
        run_id: Run to write to.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._writer = RunWriter(store.client, run_id)

    def put(self, kind: Kind, **content: Any) -> None:
        """Write an operation, retrying while another process has locked the database."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._writer.write(kind, content)
                return
            except (MlflowException, SQLAlchemyError, OSError) as error:
                if self._store.has_refused(error):
                    reason = in_one_line(error)
                    rank_zero_warn(f"MLflow at {self._store.shown} refused {kind} of the run, not logged: {reason}")
                    return
                if not is_locked(error) or time.monotonic() > deadline:
                    raise self._failure(kind, error) from error
            time.sleep(_PAUSE_SECONDS)

    def put_file(self, path: Path, folder: Path) -> None:
        """Copy a file to the store's artifacts."""
        self.put("artifact", file=str(path), folder=folder.as_posix())

    def put_model(self, archive: Path, **content: Any) -> None:
        """Write a model to the store."""
        self.put("model", file=str(archive), **content)

    def close(self, was_away: bool = False) -> None:
        """Do nothing: everything is written."""

    def _failure(self, kind: Kind, error: Exception) -> SettingError:
        """Error for the user."""
        disk = disk_error(error)
        if disk is not None:
            return not_written(f"{kind} of the run, to {self._store.home},", self._store.home, disk)
        return SettingError(
            f"tracking.uri {self._store.shown!r} cannot be used ({in_one_line(root_cause(error))}): repair it, then "
            "resume the run from its last checkpoint"
        )
