"""A local store is written at once; a locked database is waited for, a full disk named."""

import sqlite3
import threading
import time
from contextlib import closing

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from psn_lightning.errors import SettingError
from psn_lightning.tracking import sink
from psn_lightning.tracking.sink import LocalSink
from psn_lightning.tracking.store import Store
from psn_lightning.tracking.writer import RunWriter
from tests.tracking.operations import assert_all, put_all


@pytest.fixture
def local(workdir, run_id):
    return LocalSink(Store(None), run_id)


def test_everything_is_there_when_a_call_returns(local, run_id, client, workdir):
    put_all(local.put, local.put_file, workdir)
    assert_all(client, run_id)


def sqlite_error(code, message):
    """As MLflow raises it."""
    driver = sqlite3.OperationalError(message)
    driver.sqlite_errorcode = code
    error = MlflowException("(sqlite3.OperationalError) [SQL: …]")
    error.__cause__ = OperationalError("…", {}, driver)
    error.__cause__.__cause__ = driver
    return error


def failing(monkeypatch, errors):
    """Let the first writes fail."""
    left, real = list(errors), RunWriter.write

    def write(self, kind, content):
        if left:
            raise left.pop(0)
        real(self, kind, content)

    monkeypatch.setattr(RunWriter, "write", write)


def test_a_locked_database_is_waited_for(local, run_id, client, monkeypatch):
    failing(monkeypatch, [sqlite_error(sqlite3.SQLITE_BUSY, "database is locked")] * 2)
    local.put("tags", tags={"t": "1"})
    assert client.get_run(run_id).data.tags["t"] == "1"


def test_a_database_that_another_process_really_locks(local, run_id, client, workdir):
    with closing(sqlite3.connect(workdir / "mlruns" / "mlflow.db", check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, other.rollback)
        release.start()
        before = time.monotonic()
        local.put("tags", tags={"t": "1"})
        assert time.monotonic() - before > 0.3
        release.join()
    assert client.get_run(run_id).data.tags["t"] == "1"


def test_but_not_for_ever(local, monkeypatch):
    monkeypatch.setattr(sink, "_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(sink, "_PAUSE_SECONDS", 0.05)
    failing(monkeypatch, [sqlite_error(sqlite3.SQLITE_BUSY, "database is locked")] * 9)
    with pytest.raises(SettingError, match=r"mlflow\.db' cannot be used \(database is locked\).*last checkpoint"):
        local.put("tags", tags={})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full"), "No space left on device"),
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"), "Input/output error"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_a_full_disk_is_named(error, reason, local, monkeypatch):
    failing(monkeypatch, [error])
    with pytest.raises(SettingError, match=rf"mlruns, cannot be written \({reason}.*last checkpoint"):
        local.put("metrics", metrics=[])


def test_a_database_that_is_really_full(local):
    """The limit is that of MLflow's own connection."""
    with local._writer._client._tracking_client.store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SettingError, match=r"metrics of the run, .* \(No space left on device"):
        local.put("metrics", metrics=[(f"key{i}", 1.0, 0, step) for i in range(50) for step in range(50)])


def test_a_database_of_no_use_is_named(local, monkeypatch):
    failing(monkeypatch, [sqlite_error(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")])
    with pytest.raises(SettingError, match=r"mlflow\.db' cannot be used \(database disk image is malformed\)"):
        local.put("tags", tags={})


def test_a_refused_operation_does_not_stop_the_run(local, run_id, client):
    with pytest.warns(UserWarning, match="refused metrics .*a@b"):
        local.put("metrics", metrics=[("a@b", 1.0, 1, 0)])
    local.put("tags", tags={"t": "1"})
    assert client.get_run(run_id).data.tags["t"] == "1"
