"""The exit code of a worker, and what it writes to the study."""

import os
import signal
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from psn_lightning.errors import SettingError
from psn_lightning.sweeps import worker
from psn_lightning.sweeps.liveness import REASON, WORKER
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.tickets import TICKET, Tickets, count_deaths
from psn_lightning.sweeps.worker import run_ticket, start_job


@pytest.fixture
def plan(workdir, monkeypatch):
    """A study of two tickets whose trials run what a test says."""
    plan = Plan("mine", None, {}, {"x": [1]}, Tickets(2, None, 1), "random", None, None, "val/accuracy", "maximize")
    plan.create()
    plan.tickets.fill(plan.open()[0])
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    monkeypatch.setattr(worker, "start_heartbeat", lambda *_: None)
    yield plan
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(plan, monkeypatch):
    """Run a ticket with a function in place of its trial: exit code, and the trial as it was left."""

    def run(act, ticket=0):
        monkeypatch.setattr(worker, "run_trial", act)
        code = run_ticket(plan, ticket)
        trials = [trial for trial in plan.open()[0].get_trials() if trial.user_attrs[TICKET] == ticket]
        return code, trials[-1]

    return run


def test_a_result(run):
    code, trial = run(lambda trial, plan: 0.75, ticket=1)
    assert (code, trial.state, trial.value) == (0, TrialState.COMPLETE, 0.75)
    assert trial.user_attrs[WORKER]["pid"] == os.getpid()


def test_a_pruned_trial(run):
    def prune(trial, plan):
        raise optuna.TrialPruned

    code, trial = run(prune)
    assert (code, trial.state) == (0, TrialState.PRUNED)


def test_a_ticket_that_does_not_wait(run):
    run(lambda trial, plan: 0.5)
    code, trial = run(lambda trial, plan: 0.9)
    assert (code, trial.value) == (0, 0.5)


def test_a_setting_that_cannot_work_is_printed_and_costs_no_retry(run, capfd):
    def refuse(trial, plan):
        raise SettingError("lr -1 must be positive")

    code, trial = run(refuse)
    assert (code, trial.state, count_deaths([trial])) == (2, TrialState.FAIL, 0)
    assert trial.user_attrs[REASON] == "lr -1 must be positive"
    assert capfd.readouterr().err == "psn-train: lr -1 must be positive\n"


def test_a_failure_costs_a_retry_and_leaves_its_traceback(run, capfd):
    def fail(trial, plan):
        raise IndexError("out of range")

    code, trial = run(fail)
    assert (code, trial.state, count_deaths([trial])) == (1, TrialState.FAIL, 1)
    assert trial.user_attrs[REASON] == "IndexError: out of range"
    assert "Traceback" in capfd.readouterr().err


def stop_now(trial, plan):
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("the signal did not interrupt the run")


def test_a_stop_costs_no_retry(run):
    code, trial = run(stop_now)
    assert (code, trial.state, count_deaths([trial])) == (143, TrialState.FAIL, 0)
    assert trial.user_attrs[REASON] == "the sweep was stopped"


def test_a_stop_before_the_run_begins_is_not_forgotten(run, monkeypatch):
    monkeypatch.setattr(worker, "start_heartbeat", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    code, trial = run(lambda trial, plan: 0.5)
    assert (code, trial.state, trial.value) == (143, TrialState.FAIL, None)


def test_a_stop_after_the_run_does_not_lose_the_result(run, monkeypatch):
    tell = optuna.Study.tell

    def stop_and_tell(*arguments, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        return tell(*arguments, **more)

    monkeypatch.setattr(optuna.Study, "tell", stop_and_tell)
    code, trial = run(lambda trial, plan: 0.5)
    assert (code, trial.state, trial.value) == (0, TrialState.COMPLETE, 0.5)


def test_a_trial_that_another_command_failed_meanwhile_stays_failed(run, plan):
    def lose(trial, _):
        study = plan.open()[0]
        study.tell(trial.number, state=TrialState.FAIL)
        trial.report(0.5, 0)

    code, trial = run(lose)
    assert (code, trial.state) == (0, TrialState.FAIL)


def test_the_signal_of_a_cluster_stops_a_job(plan, monkeypatch):
    """Slurm's before the time is over; submitit's own handler would end the job without a word to the study."""
    monkeypatch.setattr(worker, "redirect_output", lambda log: None)
    monkeypatch.setattr(worker, "run_trial", lambda trial, plan: os.kill(os.getpid(), signal.SIGUSR2))
    assert start_job(plan, 0) == 143


def test_a_process_has_the_threads_and_the_environment_that_it_is_given(plan, monkeypatch):
    asked = SimpleNamespace(threads=None, log=None)
    monkeypatch.setattr(worker.os, "setpgrp", lambda: None)
    monkeypatch.setattr(worker.torch, "set_num_threads", lambda n: setattr(asked, "threads", n))
    monkeypatch.setattr(worker, "redirect_output", lambda log: setattr(asked, "log", log))
    monkeypatch.setattr(worker, "run_trial", lambda trial, plan: float(os.environ["GIVEN"]))
    monkeypatch.setattr(worker.os, "environ", {"LEFT": "over"})
    with pytest.raises(SystemExit) as end:
        worker.start_local(plan, 1, 3, {"GIVEN": "0.25"})
    assert end.value.code == 0
    assert asked.threads == 3
    assert asked.log.name == "trial-001.log"
    assert os.environ == {"GIVEN": "0.25"}
    assert plan.open()[0].get_trials()[1].value == 0.25
