"""A run's operations reach a server that is slow, away or refuses some of them."""

import threading
import time
from contextlib import closing

import pytest
from mlflow.exceptions import MlflowException

from psn_lightning.tracking import sender
from psn_lightning.tracking.outbox import Outbox
from psn_lightning.tracking.sender import Delivery, Sender
from psn_lightning.tracking.store import Store
from psn_lightning.tracking.writer import RunWriter, ensure_experiment, find_offline_run
from tests.tracking.operations import assert_all, put_all


def send_all(store, outbox):
    delivery = Delivery(store, outbox)
    while delivery.send_next():
        pass


def test_everything_arrives(database, outbox, run_id, client, workdir):
    put_all(outbox.put, outbox.put_file, workdir)
    send_all(database, outbox)
    assert not len(outbox)
    assert_all(client, run_id)


def test_a_run_that_began_offline_is_created(database, offline, client, workdir):
    put_all(offline.put, offline.put_file, workdir)
    send_all(database, offline)
    run = client.get_run(offline.run.run_id)
    assert (run.info.run_name, run.info.start_time, run.data.tags["t"]) == ("r1", 77, "1")
    assert run.data.tags["offline_id"] == "offline-1"
    assert_all(client, run.info.run_id)


def test_it_is_created_once_though_the_answer_was_lost(database, offline, client, monkeypatch):
    """As if the process had died before it could record the id."""
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "set_run_id", lambda *_: None)
        first = Delivery(database, offline).ensure_run()
    assert offline.run.run_id is None
    assert Delivery(database, offline).ensure_run() == first
    experiment = ensure_experiment(database, "e")
    assert find_offline_run(client, experiment, "offline-1").info.run_id == first
    assert len(client.search_runs([experiment])) == 1


def test_a_refused_operation_is_in_nobodys_way(database, outbox, run_id, client, workdir):
    """A metric of an impossible name is set aside with the reason; what follows arrives."""
    outbox.put("metrics", metrics=[["a@b", 1.0, 1, 0]])
    put_all(outbox.put, outbox.put_file, workdir)
    with pytest.warns(UserWarning, match=rf"refused metrics .*{run_id}\.db.*a@b"):
        send_all(database, outbox)
    assert_all(client, run_id)
    outbox.close()
    assert outbox.path.exists()


@pytest.mark.parametrize("error", [MlflowException("the proxy says 400"), ConnectionError("away")])
def test_an_answer_that_is_not_the_stores_own_is_no_refusal(error, outbox, monkeypatch):
    """A proxy before a server that is away may answer 400 or 404."""
    server = Store("http://127.0.0.1:9")
    if isinstance(error, MlflowException):
        error.error_code = "INVALID_PARAMETER_VALUE"
    monkeypatch.setattr(RunWriter, "tags", raising(error))
    outbox.put("tags", tags={"t": "1"})
    with pytest.raises(type(error)):
        Delivery(server, outbox).send_next()
    assert len(outbox) == 1


def raising(error):
    def raised(*_, **__):
        raise error

    return raised


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sender, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 0.05)


def slow(monkeypatch, seconds):
    monkeypatch.setattr(RunWriter, "tags", lambda self, tags: time.sleep(seconds))


def away(store):
    raise ConnectionError("nobody is there")


def test_nothing_that_is_put_before_the_end_is_left(database, outbox, run_id, client, workdir):
    sink = Sender(database, outbox)
    put_all(sink.put, sink.put_file, workdir)
    sink.close()
    assert not outbox.path.exists()
    assert_all(client, run_id)


def test_a_large_file_may_take_longer_than_the_patience(database, outbox, monkeypatch, impatient):
    slow(monkeypatch, 1.0)
    sink = Sender(database, outbox)
    sink.put("tags", tags={})
    sink.close()
    assert not outbox.path.exists()


@pytest.mark.filterwarnings("ignore:MLflow at")
def test_but_not_to_a_server_that_does_not_answer(database, outbox, monkeypatch, impatient, run_id):
    slow(monkeypatch, 2.0)
    monkeypatch.setattr(Store, "check", away)
    sink = Sender(database, outbox)
    sink.put("tags", tags={})
    before = time.monotonic()
    with pytest.warns(UserWarning, match=r"did not receive 1 tags \(nobody is there\).*psn-train sync"):
        sink.close()
    assert time.monotonic() - before < 1.5
    assert outbox.path.exists()


def test_putting_does_not_wait_for_the_server(database, outbox, monkeypatch):
    slow(monkeypatch, 0.5)
    sink = Sender(database, outbox)
    before = time.monotonic()
    for _ in range(3):
        sink.put("tags", tags={})
    assert time.monotonic() - before < 0.4
    sink.close()


def test_a_server_that_comes_back_receives_everything(
    database, outbox, run_id, client, workdir, monkeypatch, impatient
):
    failures = iter([True] * 3)
    real = RunWriter.write
    monkeypatch.setattr(RunWriter, "write", lambda *all: away(0) if next(failures, False) else real(*all))
    monkeypatch.setattr(sender, "_PATIENCE_SECONDS", 60)
    sink = Sender(database, outbox)
    put_all(sink.put, sink.put_file, workdir)
    sink.close()
    assert_all(client, run_id)


def test_the_thread_ends_with_its_run(database, outbox):
    before = threading.active_count()
    Sender(database, outbox).close()
    assert threading.active_count() == before


def test_an_earlier_process_left_something(database, outbox, run_id, client, workdir):
    put_all(outbox.put, outbox.put_file, workdir)
    outbox.close()
    with closing(Sender(database, Outbox(outbox.path))):
        pass
    assert_all(client, run_id)
