"""Causes of MLflow's errors: failures of the network, the disk or a database, wrapped by several libraries."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError


def root_cause(error: BaseException) -> BaseException:
    """Innermost error of the operating system or of a database driver; the error itself without one."""
    found = error
    for cause in _chain(error):
        if isinstance(cause, DBAPIError):
            found = cause.orig or cause
        elif isinstance(cause, OSError):
            found = cause
    return found


def is_locked(error: BaseException) -> bool:
    """Whether an SQLite database is locked by another process."""
    return _sqlite_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def disk_error(error: BaseException) -> OSError | None:
    """Error of the disk that an error comes from, also where SQLite reports it; None without one."""
    code = _sqlite_code(error)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        number = errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
        return OSError(number, os.strerror(number))
    return error if isinstance(error, OSError) else None


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code; None if SQLite did not fail."""
    codes = (getattr(cause, "sqlite_errorcode", None) for cause in _chain(error))
    return next((code & 0xFF for code in codes if code is not None), None)  # further bits say more


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
