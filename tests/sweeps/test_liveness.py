import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import optuna
import psutil
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from psn_lightning.sweeps import liveness
from psn_lightning.sweeps.liveness import REASON, WORKER, fail_dead_trials, failure_reason, start_heartbeat
from psn_lightning.sweeps.storages import open_storage
from psn_lightning.sweeps.tickets import Tickets, count_deaths
from psn_lightning.tracking.processes import identity
from tests.helpers.sweeps import claim, make_study


@pytest.fixture
def claimed():
    """A study, its storage and a trial in it that this process runs."""
    study, storage = make_study()
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    return study, storage, claim(tickets, study, storage)


def test_trials_of_living_workers_are_left_alone(claimed):
    study, storage, _ = claimed
    assert fail_dead_trials(study, storage) == []
    assert study.trials[0].state == TrialState.RUNNING


@pytest.mark.parametrize("changes", [{"started": 1.0}, {"pid": 2**22 + 1}], ids=["pid given again", "gone"])
def test_trials_of_dead_workers_fail(claimed, changes):
    study, storage, trial = claimed
    trial.set_user_attr(WORKER, {**identity(), **changes})
    (dead,) = fail_dead_trials(study, storage)
    assert dead.number == 0
    assert study.trials[0].state == TrialState.FAIL
    assert "died" in study.trials[0].user_attrs[REASON]
    assert count_deaths(study.trials) == 1


def test_a_zombie_is_dead(claimed):
    study, storage, trial = claimed
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    trial.set_user_attr(WORKER, {**identity(), "pid": child.pid, "started": psutil.Process(child.pid).create_time()})
    assert len(fail_dead_trials(study, storage)) == 1
    child.wait()


def test_two_commands_that_find_one_dead_trial_do_not_disturb_each_other(claimed, monkeypatch):
    study, storage, trial = claimed
    trial.set_user_attr(WORKER, {**identity(), "pid": 2**22 + 1})
    known = study.get_trials()
    study.tell(0, state=TrialState.FAIL)  # the other one was faster
    monkeypatch.setattr(study, "get_trials", lambda **_: known)
    assert fail_dead_trials(study, storage) == []


def test_a_living_worker_of_this_machine_survives_its_sleep(workdir):
    """Nobody sends heartbeats while a machine sleeps, and the command may wake up first."""
    storage = open_storage(None, "mine")
    study = optuna.create_study(storage=storage)
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    trial = claim(tickets, study, storage)
    trial.set_user_attr(WORKER, identity())
    storage.record_heartbeat(trial._trial_id)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    assert fail_dead_trials(study, storage) == []
    assert study.trials[0].state == TrialState.RUNNING


ELSEWHERE = {"host": "elsewhere", "pid": 1, "started": 1.0}


@pytest.mark.parametrize("worker", [ELSEWHERE, None], ids=["elsewhere", "died before it said who it is"])
def test_trials_without_a_heartbeat_fail_after_a_while(workdir, worker):
    storage = open_storage(None, "mine")
    study = optuna.create_study(storage=storage)
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    trial = claim(tickets, study, storage)
    trial.set_user_attr(WORKER, worker)
    fail_dead_trials(study, storage)
    assert study.trials[0].state == TrialState.RUNNING
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    fail_dead_trials(study, storage)
    assert study.trials[0].state == TrialState.FAIL
    assert "90 seconds" in failure_reason(study.trials[0])


def test_heartbeats_go_on_through_errors_and_end_with_the_supervisor(monkeypatch):
    """A pipe stands for the supervisor: its other end is closed when that ends."""
    reader, writer = os.pipe()
    killed, beats = [], []

    def record(trial_id):
        beats.append(trial_id)
        if len(beats) == 3:
            os.close(writer)
        raise StorageInternalError("away")

    monkeypatch.setattr(liveness, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(liveness.multiprocessing, "parent_process", lambda: SimpleNamespace(sentinel=reader))
    monkeypatch.setattr(liveness.os, "kill", lambda *sent: killed.append(sent))
    threads = []
    monkeypatch.setattr(
        liveness.threading, "Thread", lambda **given: threads.append(given) or SimpleNamespace(start=lambda: None)
    )
    start_heartbeat(SimpleNamespace(record_heartbeat=record), 7)
    (thread,) = threads
    assert thread["daemon"]
    thread["target"](*thread["args"])
    assert beats == [7, 7, 7]
    assert killed == [(os.getpid(), signal.SIGTERM)]
    os.close(reader)
