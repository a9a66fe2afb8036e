"""The store: its address, its lock, and runs whose process is gone."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.tracking.delivery import experiment_id
from psn_lightning.tracking.processes import as_process, identity, is_dead
from psn_lightning.tracking.store import PROCESS_TAG, Store, StoreAwayError, patiently


@pytest.fixture
def store(workdir):
    return Store(None)


def hold(seconds, held):
    with Store(None).alone():
        held.set()
        time.sleep(seconds)


def holding(seconds):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(seconds, held))
    process.start()
    held.wait()
    return process


def test_the_lock_is_waited_for(store):
    process = holding(0.5)
    before = time.monotonic()
    with store.alone():
        assert time.monotonic() - before > 0.1
    process.join()


def enter(store):
    with store.told(), store.alone():
        pass


def test_but_not_for_ever(store, monkeypatch):
    monkeypatch.setattr("psn_lightning.tracking.store._LOCK_SECONDS", 0.2)
    process = holding(60)
    with pytest.raises(StoreAwayError, match=r"another process has had mlruns/\.lock for 0\.2 seconds"):
        enter(store)
    process.kill()
    process.join()
    with store.alone():  # which a kill gives free
        pass


@pytest.mark.parametrize("after", [0.0, 0.2, 0.5])
def test_a_kill_while_the_tables_are_made_leaves_a_store_that_opens(after, workdir):
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


@pytest.mark.parametrize("content", ["no database", "folder"])
def test_what_is_no_database_is_told_at_once(content, workdir):
    path = workdir / "x" / "mlflow.db"
    path.mkdir(parents=True) if content == "folder" else (path.parent.mkdir(), path.write_text(content))
    for use in (lambda store: store.check(), lambda store: store.client):
        with pytest.raises(SettingError, match=r"x/mlflow\.db is no (file|SQLite database); name another"):
            use(Store("sqlite:///x/mlflow.db"))


def gone():
    """A process that is no more."""
    code = "import json; from psn_lightning.tracking.processes import identity; print(json.dumps(identity()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_who_is_dead():
    mine, dead = identity(), gone()
    assert not is_dead(mine)
    assert is_dead(dead)
    assert is_dead({**mine, "started": mine["started"] - 100})  # another process has got its number since
    assert not is_dead({**dead, "host": "elsewhere"})  # nothing is known of it
    assert as_process(json.dumps(mine)) == mine


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '{"host": "h", "pid": "x", "started": 1}', "null"])
def test_anybody_may_write_a_tag(text):
    assert as_process(text) is None


def test_runs_whose_process_is_gone_are_marked(store):
    experiment = experiment_id(store, "e")
    tags = {"alive": json.dumps(identity()), "dead": json.dumps(gone()), "odd": "{nothing", "away": "{}"}
    runs = {
        name: store.client.create_run(experiment, tags={PROCESS_TAG: tag}).info.run_id for name, tag in tags.items()
    }
    runs["untagged"] = store.client.create_run(experiment).info.run_id
    store.mark_killed([experiment])
    status = {name: store.client.get_run(run_id) for name, run_id in runs.items()}
    assert {name for name, run in status.items() if run.info.status == "KILLED"} == {"dead"}
    assert "died in the middle of it" in status["dead"].data.tags["killed"]
    assert all(run.info.status == "RUNNING" for name, run in status.items() if name != "dead")


def test_patience_is_bounded(monkeypatch):
    monkeypatch.setattr("psn_lightning.tracking.store._PAUSE_SECONDS", 0.01)
    tries = []

    def back_at_the_third():
        tries.append(1)
        if len(tries) < 3:
            raise StoreAwayError("away")
        return "back"

    assert patiently(back_at_the_third, 60) == "back"

    def never():
        raise StoreAwayError("away")

    with pytest.raises(StoreAwayError, match="away"):
        patiently(never, 0.05)


def test_a_server_of_another_kind_is_away(workdir):
    """Somebody answers, but no HTTP."""
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "while True: c, _ = s.accept(); c.sendall(b'SSH-2.0-x\\r\\n'); c.close()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        store = Store(f"http://127.0.0.1:{int(process.stdout.readline())}")
        with pytest.raises(StoreAwayError, match="cannot be used"), store.told():
            store.check()
        process.kill()
