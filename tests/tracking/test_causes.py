"""The cause of an error is found below what libraries wrap around it."""

import sqlite3

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from psn_lightning.tracking.causes import disk_error, is_locked, root_cause


def wrapped(cause):
    try:
        try:
            raise cause
        except Exception as error:
            raise ValueError("of a library") from error
    except ValueError as error:
        return error


def test_the_innermost_error_of_the_system_counts():
    cause = ConnectionRefusedError(111, "Connection refused")
    assert root_cause(wrapped(wrapped(cause))) is cause


def test_an_error_without_one_is_its_own_cause():
    error = wrapped(KeyError("x"))
    assert root_cause(error) is error


def test_a_databases_error_is_its_drivers(tmp_path):
    with pytest.raises(OperationalError) as raised, create_engine(f"sqlite:///{tmp_path}/x.db").connect() as connection:
        connection.exec_driver_sql("SELECT * FROM absent")
    assert str(root_cause(wrapped(raised.value))) == "no such table: absent"


def sqlite_error(code):
    error = sqlite3.OperationalError()
    error.sqlite_errorcode = code
    return wrapped(error)


@pytest.mark.parametrize(
    ("code", "locked", "number"),
    [
        (sqlite3.SQLITE_BUSY, True, None),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True, None),
        (sqlite3.SQLITE_LOCKED, True, None),
        (sqlite3.SQLITE_FULL, False, 28),
        (sqlite3.SQLITE_IOERR_FSYNC, False, 5),
        (sqlite3.SQLITE_CORRUPT, False, None),
    ],
)
def test_what_sqlite_says(code, locked, number):
    error = sqlite_error(code)
    assert is_locked(error) is locked
    assert getattr(disk_error(error), "errno", None) == number
