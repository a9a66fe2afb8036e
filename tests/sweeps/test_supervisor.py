"""What a supervisor does about exit codes, signals and time; the workers here are functions."""

import itertools
import os
import signal
import time
from types import SimpleNamespace

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from psn_lightning.errors import SettingError
from psn_lightning.sweeps import supervisor
from psn_lightning.sweeps.liveness import WORKER
from psn_lightning.sweeps.logs import trial_log
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.supervisor import Stopped, Supervisor
from psn_lightning.sweeps.tickets import Tickets, fail_trial, requeue
from psn_lightning.tracking.processes import identity
from psn_lightning.tracking.store import StoreAwayError


class Worker:
    """A worker that ends when it is asked how it ended, or when it is stopped."""

    def __init__(self, act):
        self.act, self.exitcode_, self.asked = act, None, []

    @property
    def exitcode(self):
        if self.exitcode_ is None and self.act is not None:
            self.exitcode_ = self.act()
        return self.exitcode_

    def terminate(self):
        self.asked.append("terminate")
        self.exitcode_ = 143 if self.exitcode_ is None else self.exitcode_

    def kill(self):
        self.asked.append("kill")

    def join(self):
        assert self.exitcode is not None


class Launcher:
    """Starts workers that claim their ticket and end as a test says."""

    def __init__(self, behave, workers=1):
        self.behave, self.workers = behave, workers
        self.started, self.most, self.pauses = [], 0, 0

    def start(self, plan, ticket, slot):
        study, storage = plan.open()
        worker = Worker(lambda: self.behave(study, storage, ticket))
        self.started.append((ticket, worker))
        return worker

    def pause(self, workers, seconds):
        self.most = max(self.most, len(workers))
        self.pauses += 1
        assert self.pauses < 100


@pytest.fixture
def plan(workdir, monkeypatch):
    plan = Plan("mine", None, {}, {"x": [1]}, Tickets(3, None, 1), "random", None, None, "val/accuracy", "maximize")
    plan.create()
    monkeypatch.setattr(supervisor.Display, "print_line", lambda self, text: printed.append(text))
    printed = plan.config["printed"] = []
    return plan


def claim(plan, study, storage, ticket):
    return plan.tickets.claim(study, storage, RandomSampler(seed=0), ticket)


def complete(plan):
    def behave(study, storage, ticket):
        study.tell(claim(plan, study, storage, ticket), 0.1 * ticket)
        return 0

    return behave


def test_every_ticket_has_one_worker(plan):
    launcher = Launcher(complete(plan), workers=2)
    seen = []
    state = Supervisor(plan, launcher, lambda study, state: seen.append(len(state.done))).run()
    assert [trial.value for trial in state.complete] == pytest.approx([0.0, 0.1, 0.2])
    assert [ticket for ticket, _ in launcher.started] == [0, 1, 2]
    assert launcher.most == 2
    assert seen[-1] == 3
    again = Launcher(complete(plan))
    assert Supervisor(plan, again).run().settled
    assert not again.started


def test_no_more_workers_than_trials_that_wait(plan):
    launcher = Launcher(complete(plan), workers=8)
    Supervisor(plan, launcher).run()
    assert [ticket for ticket, _ in launcher.started] == [0, 1, 2]


def test_a_trial_that_fails_is_tried_again_until_it_is_lost(plan):
    def behave(study, storage, ticket):
        fail_trial(study, claim(plan, study, storage, ticket), "broke")
        return 1

    launcher = Launcher(behave)
    state = Supervisor(plan, launcher).run()
    assert len(state.lost) == 3
    assert sorted(ticket for ticket, _ in launcher.started) == [0, 0, 1, 1, 2, 2]


def test_a_worker_that_is_killed_costs_its_trial_a_retry(plan):
    def behave(study, storage, ticket):
        trial = claim(plan, study, storage, ticket)
        if ticket == 1 and trial.number < 3:
            trial.set_user_attr(WORKER, {**identity(), "pid": 2**22 + 1})
            return -signal.SIGKILL
        study.tell(trial, 0.5)
        return 0

    state = Supervisor(plan, Launcher(behave)).run()
    assert len(state.complete) == 3
    (dead,) = plan.open()[0].get_trials(states=(TrialState.FAIL,))
    assert "died" in dead.user_attrs["reason"]
    assert any("SIGKILL" in line and str(trial_log("mine", 1)) in line for line in plan.config["printed"])


@pytest.mark.parametrize("code", [1, 2, -signal.SIGSEGV])
def test_workers_that_cannot_begin_end_the_sweep(plan, code):
    """Exit code 2 without a message is such a case, too."""
    launcher = Launcher(lambda *_: code)
    with pytest.raises(SettingError, match=str(trial_log("mine", 0))):
        Supervisor(plan, launcher).run()
    assert len(launcher.started) == 5


def test_the_message_of_a_worker_ends_the_sweep(plan):
    def behave(study, storage, ticket):
        if ticket == 2:
            return None  # runs on, until it is stopped
        requeue(study, claim(plan, study, storage, ticket), "refused")
        trial_log("mine", ticket).parent.mkdir(parents=True, exist_ok=True)
        trial_log("mine", ticket).write_text("Epoch 1\npsn-train: lr -1 must be positive\n")
        return 2

    launcher = Launcher(behave, workers=3)
    with pytest.raises(SettingError, match=r"^lr -1 must be positive$"):
        Supervisor(plan, launcher).run()
    assert [worker.asked for ticket, worker in launcher.started if ticket == 2] == [["terminate"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_all_workers_and_starts_none(plan, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    class Stopping(Launcher):
        def pause(self, workers, seconds):
            super().pause(workers, seconds)
            if self.pauses == 2:
                os.kill(os.getpid(), number)

    launcher = Stopping(lambda *_: None, workers=2)
    with pytest.raises(Stopped, match="3 trials"):
        Supervisor(plan, launcher).run()
    assert [(ticket, worker.asked) for ticket, worker in launcher.started] == [(0, ["terminate"]), (1, ["terminate"])]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_the_third_request_kills(plan):
    class Stubborn(Worker):
        def terminate(self):
            self.asked.append("terminate")

        def kill(self):
            self.asked.append("kill")
            self.exitcode_ = -signal.SIGKILL

    class Stopping(Launcher):
        def start(self, plan, ticket, slot):
            self.started.append((ticket, Stubborn(None)))
            return self.started[-1][1]

        def pause(self, workers, seconds):
            super().pause(workers, seconds)
            os.kill(os.getpid(), signal.SIGINT)

    launcher = Stopping(None)
    with pytest.raises(Stopped):
        Supervisor(plan, launcher).run()
    assert launcher.started[0][1].asked == ["terminate", "terminate", "kill"]


def test_a_worker_that_starts_while_the_stop_arrives_is_stopped(plan):
    class Interrupted(Launcher):
        def start(self, plan, ticket, slot):
            worker = super().start(plan, ticket, slot)
            os.kill(os.getpid(), signal.SIGTERM)
            return worker

    launcher = Interrupted(lambda *_: None)
    with pytest.raises(Stopped):
        Supervisor(plan, launcher).run()
    assert launcher.started[0][1].asked == ["terminate"]


def test_after_the_time_what_runs_comes_to_its_end(plan):
    until = time.monotonic() + 3600
    launcher = Launcher(complete(plan))
    run = Supervisor(plan, launcher, until=until)

    def end_time(study, state):
        run._until = 0.0 if state.done else until

    run._on_progress = end_time
    with pytest.raises(Stopped, match="1 trials"):
        run.run()  # the second trial has started when the first one is reported
    assert [worker.asked for _, worker in launcher.started] == [[], []]


def test_mlflow_may_be_away(plan):
    def refuse(study, state):
        raise StoreAwayError("nobody is there")

    assert Supervisor(plan, Launcher(complete(plan)), refuse).run().settled
    assert any("nobody is there" in line for line in plan.config["printed"])


def test_a_machine_that_was_paused_during_a_report_does_not_put_off_the_next(plan, monkeypatch):
    clock, reports = itertools.count(0.0, 200.0), []  # each question for the time takes 200 seconds
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    Supervisor(plan, Launcher(complete(plan)), lambda study, state: reports.append(len(state.done))).run()
    assert reports == [1, 2, 3]


def test_a_storage_that_goes_away_is_named(plan, monkeypatch):
    def fail(*_):
        raise optuna.exceptions.StorageInternalError("lost")

    monkeypatch.setattr(supervisor, "fail_dead_trials", fail)
    with pytest.raises(SettingError, match=r"mine\.db"):
        Supervisor(plan, Launcher(complete(plan))).run()
