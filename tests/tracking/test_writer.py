"""Each operation has the effect of one, however often it is done."""

import pytest
from mlflow.exceptions import MlflowException

from psn_lightning.errors import SettingError
from psn_lightning.tracking.writer import RunWriter, ensure_experiment
from tests.tracking.operations import assert_all, put_all


def write_all(client, run_id, folder):
    writer = RunWriter(client, run_id)
    put_all(
        lambda kind, **content: writer.write(kind, content),
        lambda path, place: writer.artifact(str(path), place.as_posix()),
        folder,
    )


def test_twice_is_once(client, run_id, workdir):
    write_all(client, run_id, workdir)
    assert_all(client, run_id)
    write_all(client, run_id, workdir)
    assert_all(client, run_id)


@pytest.mark.parametrize("lost", ["log_batch", "log_artifact", "set_terminated", "set_tag", "update_run"])
def test_a_lost_answer_changes_nothing(lost, client, run_id, workdir, monkeypatch):
    """The store has done what was asked for, but the answer was lost."""
    real, calls = getattr(type(client), lost), []

    def done_and_lost(*arguments, **named):
        real(*arguments, **named)
        calls.append(lost)
        if len(calls) % 2:
            raise MlflowException("the connection broke")

    monkeypatch.setattr(type(client), lost, done_and_lost)
    writer = RunWriter(client, run_id)

    def put(kind, **content):
        for _ in range(10):
            try:
                return writer.write(kind, content)
            except MlflowException:
                pass
        raise AssertionError(f"{kind} never succeeded")

    put_all(put, lambda path, folder: put("artifact", file=str(path), folder=folder.as_posix()), workdir)
    monkeypatch.undo()
    assert calls
    assert_all(client, run_id)


def test_steps_that_a_resumed_run_computes_again_are_logged_once(client, run_id):
    """Steps 0 to 8 are in the store; from its checkpoint at 4 the run comes to 9."""
    RunWriter(client, run_id).metrics([("a", float(step), 10 + step, step) for step in range(9)])
    writer = RunWriter(client, run_id)
    writer.resume(4)
    writer.metrics([("a", float(step), 90 + step, step) for step in range(4, 10)])
    assert [m.step for m in client.get_metric_history(run_id, "a")] == list(range(10))


def test_a_parameter_that_the_run_has_is_left(client, run_id):
    for value in ("1", "2"):
        RunWriter(client, run_id).params({"p": value})
    assert client.get_run(run_id).data.params == {"p": "1"}


def test_an_end_corrects_that_the_run_was_taken_for_dead(client, run_id):
    client.set_tag(run_id, "killed", "process 1 died during the run")
    RunWriter(client, run_id).end("FINISHED", None, 5000)
    run = client.get_run(run_id)
    assert (run.info.status, "killed" in run.data.tags) == ("FINISHED", False)


def test_a_deleted_experiment_is_named(database):
    database.client.delete_experiment(ensure_experiment(database, "gone"))
    with pytest.raises(SettingError, match=r"experiment 'gone' was deleted .* restore it with"):
        ensure_experiment(database, "gone")
