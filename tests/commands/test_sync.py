"""``psn-train sync`` sends what is left, once, and leaves alone what it cannot send."""

import pytest

from psn_lightning.cli import main
from psn_lightning.tracking.outbox import Outbox, QueuedRun
from psn_lightning.tracking.store import Store
from psn_lightning.tracking.writer import ensure_experiment
from tests.tracking.operations import assert_all, put_all


@pytest.fixture
def uri(workdir):
    return f"sqlite:///{workdir}/mlruns/mlflow.db"


@pytest.fixture
def run_id(uri):
    store = Store(uri)
    return store.client.create_run(ensure_experiment(store, "e")).info.run_id


def make_outbox(workdir, uri, run_id):
    return Outbox(workdir / "mlruns" / "outbox" / f"{run_id}.db", QueuedRun(uri, "e", run_id, None, {}, 0, None))


@pytest.fixture
def outbox(workdir, uri, run_id):
    return make_outbox(workdir, uri, run_id)


def test_what_is_left_is_sent_once(outbox, run_id, client, workdir, capsys):
    put_all(outbox.put, outbox.put_file, workdir)
    outbox.close()
    assert main(["sync"]) == 0
    assert f"Run {run_id}" in capsys.readouterr().out
    assert_all(client, run_id)
    assert not list(outbox.path.parent.iterdir())
    assert main(["sync"]) == 0
    assert "nothing to send" in capsys.readouterr().out


def test_a_run_that_is_under_way_sends_itself(outbox, capsys):
    outbox.put("tags", tags={})
    assert main(["sync"]) == 0
    assert f"{outbox.path.name} belongs to a run that is under way" in capsys.readouterr().out
    assert len(outbox) == 1


def test_what_was_refused_is_kept_and_named(outbox, run_id, client, workdir, capsys):
    outbox.put("metrics", metrics=[["a@b", 1.0, 1, 0]])
    put_all(outbox.put, outbox.put_file, workdir)
    outbox.close()
    with pytest.warns(UserWarning, match="refused metrics of the run"):
        assert main(["sync"]) == 0
    assert_all(client, run_id)
    assert f"what MLflow refused stays in mlruns/outbox/{run_id}.db" in capsys.readouterr().out
    assert main(["sync"]) == 0
    assert "nothing was left" in capsys.readouterr().out


def test_one_that_cannot_be_sent_is_in_nobodys_way(outbox, run_id, client, workdir, capsys):
    away = make_outbox(workdir, "http://127.0.0.1:9", "away")
    for one in (away, outbox):
        put_all(one.put, one.put_file, workdir)
        one.close()
    damaged = outbox.path.with_name("a-damaged.db")
    damaged.write_bytes(b"garbage" * 100)
    assert main(["sync"]) == 2
    assert "a-damaged.db is damaged" in capsys.readouterr().err
    assert_all(client, run_id)
    assert not outbox.path.exists()
    assert away.path.exists()
    damaged.unlink()
    assert main(["sync"]) == 2
    assert "tracking.uri 'http://127.0.0.1:9' cannot be used" in capsys.readouterr().err


def test_one_that_its_run_sends_meanwhile_is_not_missed(workdir, monkeypatch):
    gone = workdir / "mlruns" / "outbox" / "gone.db"
    monkeypatch.setattr("psn_lightning.commands.sync.find_outboxes", lambda _: [gone])
    assert main(["sync"]) == 0
    assert not gone.exists()
