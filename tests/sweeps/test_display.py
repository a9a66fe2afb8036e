import pytest
from optuna.trial import TrialState

from psn_lightning.sweeps.display import Display
from psn_lightning.sweeps.liveness import REASON
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.tickets import Tickets, fail_trial
from psn_lightning.sweeps.trials import EPOCHS
from tests.helpers.sweeps import claim, make_study

PLAN = Plan("mine", None, {}, {"x": [1]}, Tickets(3, None, 0), "random", None, None, "val/accuracy", "maximize")


@pytest.fixture
def shown(capsys, monkeypatch):
    """A study of three tickets, its display, and the lines that it has printed since the last call."""
    monkeypatch.setenv("COLUMNS", "200")
    study, storage = make_study()
    PLAN.tickets.fill(study)
    display = Display(PLAN, 2)

    def lines():
        return capsys.readouterr().out.splitlines()

    return study, storage, display, lines


def look(study, display, tickets=None, closing=False):
    return display.show(PLAN.tickets.state(study), tickets or {}, closing)


def test_every_end_is_one_line(shown):
    study, storage, display, lines = shown
    assert not look(study, display)
    for ticket in range(3):
        trial = claim(PLAN.tickets, study, storage)
        trial.suggest_float("model.lr", 0.1, 0.1)
        if ticket == 0:
            study.tell(trial, 0.25)
        elif ticket == 1:
            trial.set_user_attr(REASON, "pruned after epoch 1")
            study.tell(trial, state=TrialState.PRUNED)
        else:
            fail_trial(study, trial, "IndexError: out of range")
        assert look(study, display)
        assert not look(study, display)
    assert lines() == [
        "trial 0 (lr 0.1): val/accuracy 0.2500",
        "trial 1 (lr 0.1): pruned after epoch 1",
        "trial 2 (lr 0.1) failed for good: IndexError: out of range",
    ]


def test_ends_before_the_first_look_are_known_but_not_printed(shown):
    study, storage, display, lines = shown
    study.tell(claim(PLAN.tickets, study, storage), 0.25)
    assert look(study, display)
    assert lines() == []


def test_a_worker_shows_the_epochs_of_its_trial(shown):
    study, storage, display, _ = shown
    look(study, display, {0: 0, 1: 1})
    first, second = display._progress.tasks[1:]
    assert "trial 0" in first.description
    assert first.total is None
    trial = claim(PLAN.tickets, study, storage)
    trial.set_user_attr(EPOCHS, 10)
    trial.report(0.5, 3)
    look(study, display, {0: 0, 1: 1})
    assert "0.5000" in first.description
    assert (first.completed, first.total) == (4, 10)
    assert "trial 1" in second.description


def test_a_hint_is_printed_once(shown):
    study, storage, display, lines = shown
    for _ in range(3):
        look(study, display, {0: 0}, closing=True)
    assert len(lines()) == 1
    for _ in range(3):
        claim(PLAN.tickets, study, storage)
    for _ in range(3):
        look(study, display)
    assert ["other commands" in line for line in lines()] == [True]


def test_a_study_that_is_done_says_so(shown):
    study, storage, display, lines = shown
    for _ in range(3):
        study.tell(claim(PLAN.tickets, study, storage), 0.25)
    display.show_nothing_left(PLAN.tickets.state(study))
    (line,) = lines()
    assert "mine: all 3 trials are done" in line
