"""The file of a local store: its lock, a kill while it is created, and what is not a database."""

import multiprocessing
import signal
import time
from pathlib import Path

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.tracking import local_database
from psn_lightning.tracking.local_database import lock_folder
from psn_lightning.tracking.store import Store

FOLDER = Path("mlruns")


def hold(seconds, held):
    with lock_folder(FOLDER):
        held.set()
        time.sleep(seconds)


def hold_lock(seconds):
    """Another process that holds the lock."""
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(seconds, held))
    process.start()
    held.wait()
    return process


def test_the_lock_is_waited_for(workdir):
    process = hold_lock(0.5)
    before = time.monotonic()
    with lock_folder(FOLDER):
        assert time.monotonic() - before > 0.1
    process.join()


def test_but_not_for_ever(workdir, monkeypatch):
    monkeypatch.setattr(local_database, "_LOCK_SECONDS", 0.2)
    process = hold_lock(60)
    with pytest.raises(OSError, match=r"another process has locked mlruns/\.lock"), lock_folder(FOLDER):
        pass
    process.kill()
    process.join()
    with lock_folder(FOLDER):  # which a kill releases
        pass


@pytest.mark.parametrize("after", [0.0, 0.2])
def test_a_kill_while_the_tables_are_created_leaves_a_store_that_opens(after, workdir):
    store = Store("sqlite:///new/mlflow.db")
    process = multiprocessing.get_context("fork").Process(target=lambda: store.client)
    process.start()
    while process.is_alive() and not list(workdir.glob("new/.*.new")):
        time.sleep(0.01)
    time.sleep(after)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not store.file.exists()
    assert [experiment.name for experiment in store.client.search_experiments()] == ["Default"]


@pytest.mark.parametrize("content", ["text", "folder"])
def test_what_is_not_a_database_is_named_at_once(content, workdir):
    path = workdir / "x" / "mlflow.db"
    path.mkdir(parents=True) if content == "folder" else (path.parent.mkdir(), path.write_text(content))
    for use in (lambda store: store.check(), lambda store: store.client):
        with pytest.raises(SettingError, match=r"x/mlflow\.db is not an? (file|SQLite database)"):
            use(Store("sqlite:///x/mlflow.db"))
