"""Each operation has the effect of once, however often and by whom it is delivered."""

import json
import shutil

import pytest
from mlflow.exceptions import MlflowException

from psn_lightning.cli import main
from psn_lightning.errors import SettingError
from psn_lightning.tracking.delivery import Delivery, experiment_id, find_offline
from psn_lightning.tracking.spool import Spool, SpooledRun
from psn_lightning.tracking.store import Store

URI = "sqlite:///mlruns/mlflow.db"


@pytest.fixture
def store(workdir):
    return Store(URI)


@pytest.fixture
def spool(store, workdir):
    run = store.client.create_run(experiment_id(store, "e"))
    return Spool(workdir / "mlruns" / "spool" / "r", SpooledRun(store.absolute, "e", run.info.run_id))


def fill(spool, workdir):
    (workdir / "files" / "deep").mkdir(parents=True, exist_ok=True)
    (workdir / "files" / "deep" / "a.txt").write_text("a")
    spool.append({"do": "params", "params": {f"p{i}": str(i) for i in range(150)}})
    spool.append({"do": "tags", "tags": {"t": "1"}})
    spool.append({"do": "metrics", "metrics": [["a", step / 7, 1000 + step, step] for step in range(1100)]})
    spool.append({"do": "metrics", "metrics": [["b", float("nan"), 1, 0], ["b", float("inf"), 2, 1]]})
    spool.add_files(workdir / "files")
    spool.append({"do": "goes on", "step": 3})
    spool.append({"do": "ends", "status": "KILLED", "killed": "why", "time": 5000})


def deliver(store, spool):
    delivery = Delivery(store, spool)
    while delivery.next():
        pass


def check(store, run_id):
    run = store.client.get_run(run_id)
    assert run.data.params == {f"p{i}": str(i) for i in range(150)}
    assert {"t": "1", "killed": "why", "resumed_at": "3"}.items() <= run.data.tags.items()
    history = store.client.get_metric_history(run_id, "a")
    assert [(m.step, m.value) for m in history] == [(step, step / 7) for step in range(1100)]
    assert [m.step for m in store.client.get_metric_history(run_id, "b")] == [0, 1]
    assert [a.path for a in store.client.list_artifacts(run_id, "deep")] == ["deep/a.txt"]
    assert (run.info.status, run.info.end_time) == ("KILLED", 5000)


def test_everything_arrives(store, spool, workdir):
    fill(spool, workdir)
    deliver(store, spool)
    assert spool.empty
    check(store, spool.run.run_id)


def test_twice_is_once(store, spool, workdir):
    fill(spool, workdir)
    deliver(store, spool)
    spool.mark(0)
    deliver(store, spool)
    check(store, spool.run.run_id)


@pytest.mark.parametrize("lost", ["log_batch", "log_artifacts", "set_terminated", "set_tag", "update_run"])
def test_an_answer_that_is_lost_changes_nothing(lost, store, spool, workdir, monkeypatch):
    """The store has done it, but nobody heard of it."""
    fill(spool, workdir)
    real, calls = getattr(type(store.client), lost), []

    def done_and_lost(*arguments, **named):
        real(*arguments, **named)
        calls.append(lost)
        if len(calls) % 2:
            raise MlflowException("the connection broke")

    monkeypatch.setattr(type(store.client), lost, done_and_lost)
    delivery = Delivery(store, spool)
    for _ in range(100):
        try:
            if not delivery.next():
                break
        except MlflowException:
            pass
    monkeypatch.undo()
    assert spool.empty
    assert calls
    check(store, spool.run.run_id)


def test_what_a_run_computes_again_after_a_kill_is_logged_once(store, spool):
    """Steps 0 to 5 are in the store, 6 to 8 only in the spool; from its checkpoint at 4 the run comes to 9."""
    run_id = spool.run.run_id
    spool.append({"do": "metrics", "metrics": [["a", float(s), 10 + s, s] for s in range(6)]})
    deliver(store, spool)
    spool.append({"do": "metrics", "metrics": [["a", float(s), 10 + s, s] for s in range(6, 9)]})
    spool.append({"do": "goes on", "step": 4})
    spool.append({"do": "metrics", "metrics": [["a", float(s), 90 + s, s] for s in range(4, 10)]})
    deliver(store, spool)
    assert [m.step for m in store.client.get_metric_history(run_id, "a")] == list(range(10))


def offline(store, workdir, name="r1"):
    run = SpooledRun(store.absolute, "e", None, name, {"t": "1"}, 77, "offline-1")
    return Spool(workdir / "mlruns" / "spool" / "offline-1", run)


def test_a_run_that_began_without_the_store_is_made(store, workdir):
    spool = offline(store, workdir)
    fill(spool, workdir)
    deliver(store, spool)
    run = store.client.get_run(spool.run.run_id)
    assert (run.info.run_name, run.info.start_time, run.data.tags["t"]) == ("r1", 77, "1")
    assert run.data.tags["offline_id"] == "offline-1"
    check(store, spool.run.run_id)


def test_it_is_made_once_also_where_the_answer_was_lost(store, workdir):
    spool = offline(store, workdir)
    fill(spool, workdir)
    first = Delivery(store, spool).run
    (spool.folder / "run.json").unlink()  # as if the process had died before it could write the id down
    spool.close()
    again = offline(store, workdir)
    deliver(store, again)
    assert again.run.run_id == first
    experiment = experiment_id(store, "e")
    assert find_offline(store.client, experiment, "offline-1").info.run_id == first
    assert len(store.client.search_runs([experiment])) == 1


def test_what_the_store_refuses_is_in_nobodys_way(store, spool, workdir, capsys):
    """A metric of an impossible name is put aside with the reason; what follows arrives."""
    spool.append({"do": "metrics", "metrics": [["a@b", 1.0, 1, 0]]})
    fill(spool, workdir)
    spool.close()
    with pytest.warns(UserWarning, match="refuses metrics of the run"):
        assert main(["sync"]) == 0
    check(store, spool.run.run_id)
    assert f"what MLflow refuses is in {spool.folder.relative_to(workdir)}/refused.jsonl" in capsys.readouterr().out
    (kept,) = [json.loads(line) for line in (spool.folder / "refused.jsonl").read_text().splitlines()]
    assert kept["metrics"] == [["a@b", 1.0, 1, 0]]
    assert "a@b" in kept["reason"]
    assert main(["sync"]) == 0
    assert "nothing was left" in capsys.readouterr().out


@pytest.mark.parametrize("error", [MlflowException("the proxy says 400"), ConnectionError("away")])
def test_what_is_not_the_stores_own_answer_is_tried_again(error, spool, monkeypatch):
    """Before a server that is away there may be something that says 400 or 404 of its own."""
    server = Store("http://127.0.0.1:9")
    if isinstance(error, MlflowException):
        error.error_code = "INVALID_PARAMETER_VALUE"
    monkeypatch.setattr(type(server.client), "log_batch", raising(error))
    spool.append({"do": "tags", "tags": {"t": "1"}})
    with pytest.raises(type(error)):
        Delivery(server, spool).next()
    assert not spool.empty
    assert not spool.refused.exists()


def raising(error):
    def raised(*_, **__):
        raise error

    return raised


def test_an_end_takes_back_that_the_run_was_thought_dead(store, spool):
    run_id = spool.run.run_id
    store.client.set_tag(run_id, "killed", "process 1 died in the middle of it")
    spool.append({"do": "ends", "status": "FINISHED", "killed": None, "time": 5000})
    deliver(store, spool)
    run = store.client.get_run(run_id)
    assert (run.info.status, "killed" in run.data.tags) == ("FINISHED", False)


def test_an_experiment_that_was_deleted_is_named(store):
    store.client.delete_experiment(experiment_id(store, "gone"))
    with pytest.raises(SettingError, match=r"experiment 'gone' was deleted .* restore it with"):
        experiment_id(store, "gone")


@pytest.mark.parametrize(
    "line",
    ["garbage", "[1]", '{"do": [1]}', '{"do": "metrics", "metrics": null}', '{"do": "tags", "tags": null}', "{}"],
)
def test_sync_of_operations_that_nobody_put_in_sends_the_others(line, store, spool, workdir, capsys):
    fill(spool, workdir)
    spool.close()
    hostile = workdir / "mlruns" / "spool" / "a-hostile"
    shutil.copytree(spool.folder, hostile)
    (hostile / "operations.jsonl").write_text(f"{line}\n")
    assert main(["sync"]) == 2
    assert f"{hostile.relative_to(workdir)} is no spool of a run, or damaged" in capsys.readouterr().err
    check(store, spool.run.run_id)
    assert not spool.folder.exists()


def test_sync_of_one_that_is_sent_meanwhile_says_nothing(spool, workdir, monkeypatch, capsys):
    monkeypatch.setattr("psn_lightning.commands.sync.spools", lambda _: [workdir / "mlruns" / "spool" / "sent"])
    assert main(["sync"]) == 0
    assert not (workdir / "mlruns" / "spool" / "sent").exists()


def test_sync_sends_what_is_left(store, spool, workdir, capsys):
    fill(spool, workdir)
    spool.close()
    assert main(["sync"]) == 0
    assert f"Run {spool.run.run_id}" in capsys.readouterr().out
    check(store, spool.run.run_id)
    assert not spool.folder.exists()
    assert main(["sync"]) == 0
    assert "Nothing is left to send" in capsys.readouterr().out


def test_sync_leaves_a_run_that_is_under_way_alone(store, spool, workdir, capsys):
    fill(spool, workdir)
    assert main(["sync"]) == 0
    assert "under way" in capsys.readouterr().out
    assert not spool.empty


def test_sync_of_one_that_cannot_be_sent_sends_the_others(store, spool, workdir, capsys):
    away = Spool(workdir / "mlruns" / "spool" / "away", SpooledRun("http://127.0.0.1:9", "e", "x"))
    for one in (away, spool):
        fill(one, workdir)
        one.close()
    hostile = workdir / "mlruns" / "spool" / "hostile"
    shutil.copytree(spool.folder, hostile)
    operations = hostile / "operations.jsonl"
    operations.write_text('{"do": "artifacts", "folder": "../../../.."}\n')
    assert main(["sync"]) == 2
    captured = capsys.readouterr()
    assert "cannot be used" in captured.err or "is damaged" in captured.err
    check(store, spool.run.run_id)
    assert not spool.folder.exists()
    assert away.folder.exists()
    assert hostile.exists()
