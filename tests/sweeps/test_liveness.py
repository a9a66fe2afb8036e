import os
import subprocess
import sys

import optuna
import psutil
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from psn_lightning.sweeps.liveness import REASON, WORKER, Watch, beat
from psn_lightning.sweeps.storages import open_storage
from psn_lightning.sweeps.tickets import Tickets, deaths
from psn_lightning.tracking.processes import identity


@pytest.fixture
def claimed():
    """A study, its storage and a trial in it that this process runs."""
    study = optuna.create_study()
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    return study, study._storage, tickets.claim(study, study._storage, lambda ticket: RandomSampler(seed=ticket))


def test_the_living_are_not_buried(claimed):
    study, storage, _ = claimed
    assert Watch(study, storage).bury() == []
    assert study.trials[0].state == TrialState.RUNNING


@pytest.mark.parametrize("changes", [{"started": 1.0}, {"pid": 2**22 + 1}], ids=["pid given again", "gone"])
def test_the_dead_of_this_machine_are_buried(claimed, changes):
    study, storage, trial = claimed
    trial.set_user_attr(WORKER, {**identity(), **changes})
    (dead,) = Watch(study, storage).bury()
    assert dead.number == 0
    assert study.trials[0].state == TrialState.FAIL
    assert "died" in study.trials[0].user_attrs[REASON]
    assert deaths(study.trials) == 1


def test_a_zombie_is_dead(claimed):
    study, storage, trial = claimed
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, nobody has taken note
    trial.set_user_attr(WORKER, {**identity(), "pid": child.pid, "started": psutil.Process(child.pid).create_time()})
    assert len(Watch(study, storage).bury()) == 1
    child.wait()


ELSEWHERE = {"host": "elsewhere", "pid": 1, "started": 1.0}


@pytest.mark.parametrize("worker", [ELSEWHERE, None], ids=["elsewhere", "died before it said who it is"])
def test_the_silent_are_buried_after_a_while(claimed, monkeypatch, worker):
    study, storage, trial = claimed
    trial.set_user_attr(WORKER, worker)
    watch, clock = Watch(study, storage), iter([0, 80, 85, 170, 180])
    monkeypatch.setattr("psn_lightning.sweeps.liveness.time.monotonic", lambda: next(clock))
    assert watch.bury() == []  # seen first
    assert watch.bury() == []  # silent for 80 seconds
    beat(storage, trial._trial_id)
    assert watch.bury() == []  # alive at 85
    assert watch.bury() == []  # silent for 85 seconds
    (dead,) = watch.bury()
    assert dead.number == 0
    assert "said nothing for 90 seconds" in study.trials[0].user_attrs[REASON]


def test_two_that_bury_one_trial_do_not_disturb_each_other(claimed, monkeypatch):
    study, storage, trial = claimed
    trial.set_user_attr(WORKER, {**identity(), "pid": 2**22 + 1})
    known = study.get_trials()
    study.tell(0, state=TrialState.FAIL)  # the other one was faster
    monkeypatch.setattr(study, "get_trials", lambda **_: known)
    assert Watch(study, storage).bury() == []


def test_a_database_has_heartbeats_of_its_own(workdir):
    storage = open_storage("sqlite:///optuna.db", "x")
    study = optuna.create_study(storage=storage)
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    trial = tickets.claim(study, storage, lambda ticket: RandomSampler(seed=ticket))
    assert storage._get_stale_trial_ids(study._study_id) == []
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    trial.set_user_attr(WORKER, ELSEWHERE)
    Watch(study, storage).bury()
    assert study.trials[0].state == TrialState.FAIL
