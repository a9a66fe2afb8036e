"""Where a study is stored: a SQLite file by default, a database server for several machines.

SQLite is the default because it needs no server and because its transactions survive a killed process and a full disk:
the file opens again as it was after the last complete change. Optuna's other file storage, a journal, would need locks
and repairs of our own, and has no heartbeats. SQLite's locks do not work reliably on network file systems, so a study
that several machines share needs PostgreSQL.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.tracking.address import without_password

FOLDER = Path("mlruns") / "studies"
"""Files of studies: their SQLite databases, and the logs of their trials."""

HEARTBEAT_SECONDS = 15
"""Time between two heartbeats of a running trial."""

GRACE_SECONDS = 90
"""Time without a heartbeat after which a trial counts as dead."""

STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError)
"""Errors of a storage that is unreachable, or whose disk is full."""

_BUSY_SECONDS = 60  # that a process waits for SQLite's lock
_ATTEMPTS = 5
_CONFLICTS = (StorageInternalError, IntegrityError, ProgrammingError)  # of two processes that create the tables at once


def silence_optuna() -> None:
    """Turn off Optuna's report of every trial and its warnings that heartbeats and figures may change."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def study_file(name: str) -> Path:
    """Path of the SQLite file that stores a study by default."""
    return FOLDER / f"{name}.db"


def storage_url(storage: str | None, name: str) -> str:
    """URL of a study's storage.

    Args:
        storage: URL of a database; None for the study's own SQLite file.
        name: Name of the study.
    """
    return storage or f"sqlite:///{study_file(name)}"


def open_storage(storage: str | None, name: str) -> RDBStorage:
    """Open the storage of a study; the SQLite file or the tables are created if they do not exist.

    Args:
        storage: URL of a database; None for the study's own SQLite file.
        name: Name of the study.

    Raises:
        SettingError: If the storage cannot be opened.
    """
    url = storage_url(storage, name)
    attempt = 0
    while True:
        attempt += 1
        try:
            return _connect(url)
        except (*STORAGE_ERRORS, OSError, ImportError, ValueError) as error:
            if attempt == _ATTEMPTS or not isinstance(error, _CONFLICTS):
                raise storage_error(url, error) from error
        time.sleep(attempt * 0.5)


def storage_error(url: str, error: Exception) -> SettingError:
    """Message about a storage that does not work.

    Args:
        url: URL of the storage.
        error: Error of the database or the file system.
    """
    remedy = "start it, or name another one. PostgreSQL needs pip install 'psn_lightning[postgres]'"
    if url.startswith("sqlite"):
        remedy = "make room on its disk, or move the file away; then start the same command again"
    if isinstance(error, StorageInternalError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # Optuna's own message says nothing
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig  # without the SQL
    return SettingError(f"storage {without_password(url)} cannot be used ({in_one_line(error)}): {remedy}")


def _connect(url: str) -> RDBStorage:
    file = _sqlite_file(url)
    if file is None:
        return _make_storage(url, {"pool_pre_ping": True})  # replaces a connection that was cut
    if not file.exists():
        _create_file(file)
    storage = _make_storage(url, {"connect_args": {"timeout": _BUSY_SECONDS, "isolation_level": None}})
    event.listen(storage.engine, "begin", _lock_database)
    return storage


def _make_storage(url: str, engine_kwargs: dict[str, object]) -> RDBStorage:
    return RDBStorage(url, engine_kwargs, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS)


def _lock_database(connection: Connection) -> None:
    """Lock a SQLite database at the start of a transaction.

    Optuna claims a trial by reading its state and then writing it, and relies on SELECT … FOR UPDATE, which SQLite
    ignores: without this lock two workers could both claim one trial.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _create_file(file: Path) -> None:
    """Create a SQLite file with its tables under another name, then give it its own.

    A process that is killed meanwhile leaves no file with half of the tables. A link, unlike a renaming, never
    replaces the file that another process has just created.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.stem}-{uuid.uuid4().hex}{file.suffix}")
    try:
        _make_storage(f"sqlite:///{scratch}", {}).engine.dispose()
        try:
            os.link(scratch, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            scratch.rename(file)
    finally:
        scratch.unlink(missing_ok=True)


def _sqlite_file(url: str) -> Path | None:
    """File of a SQLite URL; None for other databases."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def refuse_shared(storage: str, tracking: str) -> None:
    """Refuse one database for Optuna and MLflow.

    Both store the version of their schema in a table of the same name, and each would find the other's damaged.

    Args:
        storage: URL of the study's storage.
        tracking: URI of the MLflow store.

    Raises:
        SettingError: If they are the same database.
    """
    if _identity(storage) == _identity(tracking):
        raise SettingError(
            f"storage {without_password(storage)} is the database that MLflow uses (tracking.uri): both store their "
            "schema's version in a table named alembic_version. Give Optuna a database of its own"
        )


def _identity(uri: str) -> tuple[object, ...]:
    """Parts of a URL that decide which database it means: not the driver, the user or the spelling of the path."""
    try:
        url: URL = make_url(uri)
    except (ArgumentError, ValueError):  # the latter if the port is not a number
        return (uri,)
    backend = url.get_backend_name()
    if backend == "sqlite":
        return backend, str(Path(url.database or "").resolve())
    local = {None: "localhost", "127.0.0.1": "localhost", "::1": "localhost"}
    port = url.port or {"postgresql": 5432, "mysql": 3306}.get(backend)
    return backend, local.get(url.host, url.host), port, url.database
