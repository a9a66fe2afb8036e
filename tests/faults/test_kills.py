"""A run that is killed again and again is the run that was not."""

import random
import time

import mlflow
import pytest

from tests.faults.running import (
    FIT,
    assert_same_end,
    checkpoints,
    finished,
    history,
    start,
    step_of,
    store_of,
    wait_until,
)

KILLS = 10
LONG = [*FIT, "--trainer.max_epochs=60", "--checkpoints.every_n_steps=9"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(start(folder, *LONG))
    return folder


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_at_random_moments(seed, undisturbed, tmp_path):
    """Each within a second and a half of new training, or while the process still begins."""
    draw = random.Random(seed)
    arguments, kills = LONG, 0
    while kills < KILLS:
        process, before = start(tmp_path, *arguments), step_of(tmp_path)
        if draw.random() < 0.8:
            wait_until(lambda before=before: step_of(tmp_path) > before, process)
            time.sleep(draw.uniform(0, 0.3))
        else:
            time.sleep(draw.uniform(0, 8))
        process.kill()
        process.communicate()
        kills += 1
        arguments = [*LONG, "--ckpt_path=last"] if mlruns_has_a_run(tmp_path) else LONG
    finished(start(tmp_path, *arguments))
    assert_same_end(undisturbed, tmp_path)
    (metrics, run), (expected, _) = history(store_of(tmp_path)), history(store_of(undisturbed))
    assert metrics == expected
    assert run.info.status == "FINISHED"
    assert "killed" not in run.data.tags
    assert not list(tmp_path.glob("mlruns/outbox/*"))
    assert not [path for path in checkpoints(tmp_path, "*") if path.name.startswith(".")]


def mlruns_has_a_run(folder):
    try:
        client = mlflow.MlflowClient(store_of(folder))
        found = client.get_experiment_by_name("psn_lightning")
        return bool(found and client.search_runs([found.experiment_id], "tags.stage = 'fit'"))
    except mlflow.MlflowException:
        return False


def test_the_next_command_sees_that_a_run_was_killed(tmp_path):
    process = start(tmp_path, *LONG)
    wait_until(lambda: step_of(tmp_path) > 0, process)
    process.kill()
    process.communicate()
    assert history(store_of(tmp_path))[1].info.status == "RUNNING"
    printed = finished(start(tmp_path, "compare"), code=2)
    assert "none of 1 runs has finished" in printed
    run = history(store_of(tmp_path))[1]
    assert run.info.status == "KILLED"
    assert f"process {process.pid} died" in run.data.tags["killed"]
    printed = finished(start(tmp_path, *LONG, "--ckpt_path=last", "--trainer.max_epochs=60"))
    assert history(store_of(tmp_path))[1].info.status == "FINISHED"


@pytest.mark.parametrize("harm", ["cut", "bit"])
def test_a_damaged_checkpoint_is_passed_over(harm, undisturbed, tmp_path):
    process = start(tmp_path, *LONG)
    wait_until(lambda: step_of(tmp_path) > 30, process)
    process.kill()
    process.communicate()
    (last,) = checkpoints(tmp_path)
    content = bytearray(last.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    last.write_bytes(content)
    printed = finished(start(tmp_path, *LONG, "--ckpt_path=last"))
    assert "last.ckpt is damaged" in printed
    assert "passed over" in printed
    assert_same_end(undisturbed, tmp_path)
    assert history(store_of(tmp_path))[0] == history(store_of(undisturbed))[0]
