"""Where a study is kept: a journal file on this machine, or a database for many."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.tracking.address import without_password

FOLDER = Path("mlruns") / "studies"
"""Journals of studies, and what their workers print."""

_ATTEMPTS = 5
_CONFLICTS = (StorageInternalError, IntegrityError, ProgrammingError)  # of two that make the tables at once

HEARTBEAT_SECONDS = 15
"""How often a worker shows that it lives."""

SILENT_SECONDS = 90
"""Without a heartbeat for so long a worker on another machine counts as dead."""


def quieten() -> None:
    """Keep Optuna from reporting every trial, and that heartbeats and figures may change with its next version."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def journal_of(name: str) -> Path:
    """The file that a study without a database is kept in."""
    return FOLDER / f"{name}.journal"


def open_storage(storage: str | None, name: str) -> BaseStorage:
    """Open a study's storage; its file or tables are made.

    Args:
        storage: Database URL, or None for the journal file.
        name: The study.

    Raises:
        SettingError: If it cannot be opened.
    """
    if storage is None:
        path = journal_of(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Optuna's lock is a link to this path: were it relative, one of a dead process would never be broken
            return JournalStorage(JournalFileBackend(str(path.resolve()), _MendingLock(path.resolve())))
        except OSError as error:
            raise SettingError(f"storage: the journal {path} cannot be written ({error.strerror})") from error
    attempt = 0
    while True:
        attempt += 1
        try:
            return RDBStorage(
                storage,
                engine_kwargs={"pool_pre_ping": True},  # a connection that was cut meanwhile is made again
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=SILENT_SECONDS,
            )
        except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as error:
            if attempt == _ATTEMPTS or not isinstance(error, _CONFLICTS):
                raise SettingError(
                    f"storage {without_password(storage)} cannot be used ({in_one_line(error)}); start it or name "
                    "another. PostgreSQL needs pip install 'psn_lightning[postgres]'"
                ) from error
        time.sleep(attempt * 0.5)


class _MendingLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal; who gets it first takes away what a full disk or a kill has left of a line.

    Optuna would write on behind that, and could not read the journal any more.

    Args:
        journal: The file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal

    def acquire(self) -> bool:
        """Wait for the lock."""
        acquired = super().acquire()
        if acquired and self._journal.exists():
            with self._journal.open("rb+") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                if file.read(1) not in (b"", b"\n"):
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        return acquired


def refuse_shared(storage: str | None, tracking: str) -> None:
    """Refuse one database for Optuna and MLflow.

    Both keep their schema's version in a table of the same name, and each takes the other's for its own, damaged.

    Raises:
        SettingError: If they are the same.
    """
    if storage is not None and _identity(storage) == _identity(tracking):
        raise SettingError(
            f"storage {without_password(storage)} is the database that MLflow uses (tracking.uri): both keep their "
            "schema's version in a table named alembic_version, and would break each other's. Give Optuna its own"
        )


def _identity(uri: str) -> tuple[object, ...]:
    """What two URLs of one database have in common: not the driver, the user or the spelling of the path."""
    try:
        url: URL = make_url(uri)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        return (uri,)
    backend = url.get_backend_name()
    if backend == "sqlite":
        return backend, str(Path(url.database or "").resolve())
    local = {None: "localhost", "127.0.0.1": "localhost", "::1": "localhost"}
    port = url.port or {"postgresql": 5432, "mysql": 3306}.get(backend)
    return backend, local.get(url.host, url.host), port, url.database
