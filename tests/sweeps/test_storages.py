import os
import signal
import subprocess
import sys
import threading

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event

from psn_lightning.errors import SettingError
from psn_lightning.sweeps import storages
from psn_lightning.sweeps.storages import (
    STORAGE_ERRORS,
    open_storage,
    refuse_shared,
    storage_error,
    storage_url,
    study_file,
)
from psn_lightning.sweeps.tickets import Tickets
from tests.helpers.sweeps import claim


def test_without_a_url_it_is_a_file_below_mlruns(workdir):
    optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")
    assert study_file("mine") == storages.FOLDER / "mine.db"
    assert [path.name for path in (workdir / "mlruns" / "studies").iterdir()] == ["mine.db"]
    assert optuna.load_study(storage=open_storage(None, "mine"), study_name="mine").study_name == "mine"


def test_with_a_url_it_is_that_database(workdir):
    url = f"sqlite:///{workdir}/optuna.db"
    assert storage_url(url, "mine") == url
    assert isinstance(open_storage(url, "mine"), RDBStorage)
    assert (workdir / "optuna.db").is_file()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("mysql+nothing://host/x", "cannot be used"),
        ("no address", "cannot be used"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", "postgresql+psycopg://me:***@127.0.0.1:1/x cannot be used"),
    ],
)
def test_a_database_that_does_not_work_is_named_without_its_password(workdir, storage, message):
    with pytest.raises(SettingError) as refused:
        open_storage(storage, "mine")
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("place", ["mlruns/studies", "mlruns/studies/mine.db"])
def test_a_file_that_cannot_be_written_is_named(workdir, place, monkeypatch):
    monkeypatch.setattr(storages.time, "sleep", lambda _: None)
    (workdir / place).parent.mkdir(parents=True, exist_ok=True)
    (workdir / place).write_text("in the way" * 100)
    with pytest.raises(SettingError, match=str(study_file("mine"))):
        open_storage(None, "mine")


@pytest.fixture
def study(workdir):
    """A study of 15 tickets in the default storage."""
    study = optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")
    Tickets(15, None, 0).fill(study)
    return study


def test_of_many_workers_one_gets_a_ticket(study):
    """Optuna alone would let several have it on SQLite, which has no SELECT … FOR UPDATE."""
    tickets, claims, barrier = Tickets(15, None, 0), [], threading.Barrier(3)

    def work():
        storage = open_storage(None, "mine")
        own = optuna.load_study(storage=storage, study_name="mine")
        barrier.wait()
        for ticket in range(15):
            sampler = optuna.samplers.RandomSampler(seed=0)
            if tickets.claim(own, storage, sampler, ticket) is not None:
                claims.append(ticket)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(claims) == list(range(15))


def test_a_worker_that_is_killed_while_it_writes_leaves_neither_half_of_it_nor_a_lock(study):
    code = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE trials SET state = 'FAIL'")
connection.execute("PRAGMA cache_spill = 1")
print("wrote", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, study_file("mine")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "wrote\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    storage = open_storage(None, "mine")
    again = optuna.load_study(storage=storage, study_name="mine")
    assert {trial.state for trial in again.get_trials()} == {TrialState.WAITING}
    assert claim(Tickets(15, None, 0), again, storage) is not None


def leave_room(connection, _):
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 10}")


def fill(study):
    while True:
        study.enqueue_trial({"x": 1}, user_attrs={"text": "long " * 1000})


def test_a_full_disk_loses_what_was_not_written_alone(study):
    full = open_storage(None, "mine")
    full.engine.dispose()  # the next connection has room for some pages
    event.listen(full.engine, "connect", leave_room)
    limited = optuna.load_study(storage=full, study_name="mine")
    with pytest.raises(STORAGE_ERRORS) as refused:
        fill(limited)
    written = len(limited.get_trials()) - 15
    assert written > 0
    assert "database or disk is full" in str(storage_error(storage_url(None, "mine"), refused.value))
    again = optuna.load_study(storage=open_storage(None, "mine"), study_name="mine")
    assert len(again.get_trials()) == 15 + written
    again.enqueue_trial({})
    assert len(again.get_trials()) == 15 + written + 1


def test_a_kill_while_the_tables_are_made_leaves_no_file(workdir, monkeypatch):
    def killed(url, *_):
        (workdir / url.removeprefix("sqlite:///")).write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storages, "_make_storage", killed)
        with pytest.raises(KeyboardInterrupt):
            open_storage(None, "mine")
    assert not study_file("mine").exists()
    optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")


def test_a_file_that_another_command_has_just_created_is_kept(workdir, monkeypatch):
    make = storages._make_storage

    def slow(url, *rest):
        storage = make(url, *rest)
        monkeypatch.setattr(storages, "_make_storage", make)
        optuna.create_study(storage=open_storage(None, "mine"), study_name="of the other command")
        return storage

    monkeypatch.setattr(storages, "_make_storage", slow)
    assert [study.study_name for study in open_storage(None, "mine").get_all_studies()] == ["of the other command"]


def test_a_file_system_without_links_will_do(workdir, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    optuna.create_study(storage=open_storage(None, "mine"), study_name="mine")
    assert [path.name for path in (workdir / "mlruns" / "studies").iterdir()] == ["mine.db"]


@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("sqlite:///./mlruns/../mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("sqlite+pysqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("postgresql://psn:a@localhost/one", "postgresql+psycopg2://other:b@127.0.0.1:5432/one"),
        (None, "sqlite:///mlruns/studies/mine.db"),
    ],
)
def test_one_database_for_both_is_refused_however_it_is_spelled(workdir, storage, tracking):
    with pytest.raises(SettingError, match="is the database that MLflow uses"):
        refuse_shared(storage_url(storage, "mine"), tracking)


@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        (None, "sqlite:///mlruns/mlflow.db"),
        ("sqlite:///mlruns/optuna.db", "sqlite:///mlruns/mlflow.db"),
        ("postgresql://psn@localhost/one", "postgresql://psn@localhost/two"),
        ("postgresql://psn@localhost:5432/one", "postgresql://psn@localhost:5433/one"),
        ("postgresql://psn@here/one", "http://here:5000"),
    ],
)
def test_databases_of_their_own_are_accepted(workdir, storage, tracking):
    refuse_shared(storage_url(storage, "mine"), tracking)
