"""Promise of a study: every ticket is done once or lost after its retries, whichever worker dies meanwhile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from psn_lightning.sweeps.storages import silence_optuna
from psn_lightning.sweeps.tickets import (
    TICKET,
    Tickets,
    count_deaths,
    fail_trial,
    requeue,
    seed_value,
    set_seed_value,
    trials_by_ticket,
)
from tests.helpers.sweeps import claim, make_study

silence_optuna()


class Study(RuleBasedStateMachine):
    """Workers of two supervisors that fill, claim, finish, stop and die in any order."""

    @initialize(n=st.integers(1, 4), retries=st.integers(0, 2), grid=st.booleans())
    def begin(self, n, retries, grid):
        self.study, self.storage = make_study()
        cells = [{"cell": i} for i in range(n)] if grid else None
        self.tickets = Tickets(n, cells, retries)
        self.held = []

    @rule()
    def fill(self):
        self.tickets.fill(self.study)

    @rule(ticket=st.integers(0, 3), draws=st.integers(0, 2))
    def take(self, ticket, draws):
        waits = ticket in [trial.user_attrs[TICKET] for trial in self.study.get_trials(states=(TrialState.WAITING,))]
        trial = self.tickets.claim(self.study, self.storage, RandomSampler(seed=ticket), ticket)
        assert (trial is not None) == waits
        if trial is not None:
            assert trial.user_attrs[TICKET] == ticket
            if self.tickets.cells is None:
                for name in ("x", "y")[:draws]:  # stopped while it draws
                    trial.suggest_float(name, 0, 1)
            else:
                trial.suggest_categorical("cell", list(range(self.tickets.n)))
            self.held.append(trial)

    @precondition(lambda self: self.held)
    @rule(how=st.sampled_from(["complete", "pruned", "broke", "stopped"]), which=st.integers(0, 9))
    def end(self, how, which):
        trial = self.held.pop(which % len(self.held))
        if how == "complete":
            self.study.tell(trial, 1.0)
        elif how == "pruned":
            self.study.tell(trial, state=TrialState.PRUNED)
        elif how == "broke":
            fail_trial(self.study, trial, "broke")
        else:
            requeue(self.study, trial, "stopped")

    @invariant()
    def nothing_is_done_twice_or_tried_too_often(self):
        if not hasattr(self, "study"):
            return
        for trials in trials_by_ticket(self.study).values():
            states = [trial.state for trial in trials]
            assert sum(state != TrialState.FAIL for state in states) <= 1
            assert count_deaths(trials) <= self.tickets.retries + 1
            for name in ("x", "y", "cell"):
                values = {trial.params[name] for trial in trials if name in trial.params}
                assert len(values) <= 1  # tried again with the same values

    @invariant()
    def the_state_counts_every_ticket(self):
        if not hasattr(self, "study"):
            return
        state = self.tickets.state(self.study)
        assert len(state.done) + len(state.running) + len(state.waiting) + len(state.lost) == self.tickets.n
        assert len(state.running) == len(self.held)
        assert state.settled == (len(state.done) + len(state.lost) == self.tickets.n)

    def teardown(self):
        """From anywhere, workers that do not die bring it to its end."""
        if not hasattr(self, "study"):
            return
        for trial in self.held:
            self.study.tell(trial, 0.0)
        self.tickets.fill(self.study)
        while (trial := claim(self.tickets, self.study, self.storage)) is not None:
            self.study.tell(trial, 0.0)
        assert self.tickets.state(self.study).settled


TestStudy = Study.TestCase
TestStudy.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(st.integers(0, 5), st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_a_study_can_grow_and_gain_retries(more, retries):
    study, storage = make_study()
    tickets = Tickets(2, None, 0)
    tickets.fill(study)
    while (trial := claim(tickets, study, storage)) is not None:
        fail_trial(study, trial, "broke")
    assert len(tickets.state(study).lost) == 2
    grown = Tickets(2 + more, None, retries)
    assert len(grown.state(study).waiting) == (2 + more if retries else more)
    grown.fill(study)
    assert len(study.get_trials(states=(TrialState.WAITING,))) == (2 + more if retries else more)


def test_a_ticket_that_two_machines_filled_is_run_once():
    study, storage = make_study()
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={TICKET: 0})
    tickets = Tickets(1, None, 0)
    trial = claim(tickets, study, storage)
    assert claim(tickets, study, storage) is None
    study.tell(trial, 1.0)
    tickets.fill(study)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert count_deaths(study.trials) == 0


@pytest.mark.parametrize("stage", [TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE])
def test_a_duplicate_that_no_worker_took_does_not_wait_for_ever(stage):
    study, storage = make_study()
    tickets = Tickets(2, None, 0)
    for ticket in (0, 1, 0):
        study.enqueue_trial({}, user_attrs={TICKET: ticket})
    if stage != TrialState.WAITING:
        trial = claim(tickets, study, storage)
        if stage == TrialState.COMPLETE:
            study.tell(trial, 1.0)
    for _ in range(2):
        tickets.take_back_duplicates(study, storage)
        assert [t.state for t in study.trials] == [stage, TrialState.WAITING, TrialState.FAIL]
    assert count_deaths(study.trials) == 0


def test_results_of_finished_seeds_go_to_the_next_try():
    study, storage = make_study()
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    trial = claim(tickets, study, storage)
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("seed_42", 0.9)
    fail_trial(study, trial, "broke")
    tickets.fill(study)
    waiting = study.get_trials(states=(TrialState.WAITING,))[0]
    assert waiting.user_attrs == {TICKET: 0, "seed_42": 0.9}


def test_values_of_a_ticket_survive_a_try_that_was_requeued_at_once():
    study, storage = make_study()
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    study.enqueue_trial({}, user_attrs={TICKET: 0})  # another machine filled it, too
    trial = claim(tickets, study, storage)
    x = trial.suggest_float("x", 0, 1)
    set_seed_value(trial, 42, 0.9)
    assert claim(tickets, study, storage) is None
    fail_trial(study, trial, "broke")
    tickets.fill(study)
    again = claim(tickets, study, storage)
    assert again.suggest_float("x", 0, 1) == x
    assert seed_value(again, 42) == 0.9


def test_values_of_a_ticket_survive_a_try_that_drew_only_some():
    study, storage = make_study()
    tickets = Tickets(1, None, 1)
    drawn = []
    for names in (["x", "y"], ["x"], ["x", "y"]):
        tickets.fill(study)
        trial = claim(tickets, study, storage)
        drawn.append([trial.suggest_float(name, 0, 1) for name in names])
        requeue(study, trial, "stopped")
    assert drawn[0] == drawn[2]


def test_fewer_tickets_are_respected():
    study, storage = make_study()
    Tickets(6, None, 0).fill(study)
    fewer = Tickets(2, None, 0)
    taken = [claim(fewer, study, storage) for _ in range(3)]
    assert [trial is not None for trial in taken] == [True, True, False]


def test_a_trial_that_another_command_failed_stays_failed():
    study, storage = make_study()
    tickets = Tickets(1, None, 1)
    tickets.fill(study)
    trial = claim(tickets, study, storage)
    study.tell(trial.number, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        fail_trial(study, trial, "broke")
