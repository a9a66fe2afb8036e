"""Sweeps whose workers, command, or both are killed."""

import os
import signal
import time

import mlflow
import psutil
from optuna.trial import TrialState

from psn_lightning.sweeps.liveness import WORKER
from tests.conftest import require
from tests.helpers.sweeps import (
    FASHION,
    assert_whole,
    finished,
    kill_a_worker,
    running,
    start,
    study,
    trials_told,
    uri_of,
)
from tests.sweeps.test_command import GRID


def test_workers_end_with_their_command_and_lose_nothing(workdir):
    sweep = {**GRID, "space": {"model.sparsity": [0.8, 0.9]}, "settings": {"trainer.max_epochs": 30}, "retries": 0}
    process = start(workdir, sweep)
    trial = running(workdir, sweep)
    worker = psutil.Process(trial.user_attrs[WORKER]["pid"])
    process.kill()
    process.wait()
    worker.wait(timeout=60)
    (stopped,) = [t for t in study(workdir, sweep).get_trials() if t.number == trial.number]
    assert stopped.state == TrialState.FAIL
    assert stopped.user_attrs["reason"] == "the sweep was stopped"  # which is no fault: it may go on without a retry
    assert len(trials_told(finished(start(workdir, sweep)))) == 2
    assert_whole(workdir, sweep, 2, uri_of(workdir), died=1)


def test_twelve_trials_outlive_their_worker_their_command_and_both(workdir):
    require("fashion")
    command = [workdir, FASHION, "--workers", "2", "--retries", "3"]  # each of the three may hit the same trial

    first = start(*command)
    killed = kill_a_worker(workdir, FASHION)
    while states(workdir, killed.user_attrs["ticket"]) == [TrialState.RUNNING]:
        time.sleep(0.1)
    pids = workers(workdir)
    first.kill()
    assert f"trial {killed.user_attrs['ticket']}: its worker died" in first.communicate()[0]
    for pid in pids:
        wait_for_end(pid)

    second = start(*command)
    running(workdir, FASHION)
    os.killpg(second.pid, signal.SIGKILL)  # the command and the server that forks
    for pid in workers(workdir):
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    second.wait()

    printed = finished(start(*command))
    assert "12 complete, 0 pruned, 0 failed" in printed
    trials = study(workdir, FASHION).get_trials()
    died = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert 3 <= len(died) <= 5  # one worker, then one or two of each command
    parent, _ = assert_whole(workdir, FASHION, 12, uri_of(workdir), died=len(died))
    again = [t for t in trials if t.user_attrs["ticket"] == killed.user_attrs["ticket"]]
    assert again[0].params == again[-1].params  # between them may be one that died before it had any
    client = mlflow.MlflowClient(uri_of(workdir))
    figures = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert figures >= {"history.png", "slice.png", "sparsity_against_objective.png", "sweep.yaml", "config.yaml"}

    assert "all 12 trials are done, nothing is left to do" in finished(start(*command))
    assert_whole(workdir, FASHION, 12, uri_of(workdir), died=len(died))


def states(folder, ticket):
    """States of a ticket's trials, oldest first."""
    return [t.state for t in study(folder, FASHION).get_trials() if t.user_attrs.get("ticket") == ticket]


def workers(folder):
    """Process numbers of the trials that run."""
    trials = study(folder, FASHION).get_trials(states=(TrialState.RUNNING,))
    return [trial.user_attrs[WORKER]["pid"] for trial in trials if WORKER in trial.user_attrs]


def wait_for_end(pid):
    """Wait until a process, of whatever parent, has ended."""
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} did not end"
        time.sleep(0.1)
