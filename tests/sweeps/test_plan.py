import dataclasses

import pytest
from optuna.pruners import MedianPruner
from optuna.trial import TrialState

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.plan import best_trial
from psn_lightning.sweeps.sweep import Range
from psn_lightning.sweeps.tickets import Tickets
from tests.conftest import CONF
from tests.helpers.sweeps import claim, make_study

SWEEP = {
    "name": "planned",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.lr": {"low": 0.001, "high": 0.01}, "model.sparsity": [0.8, 0.9]},
    "trials": 14,
}


@pytest.fixture
def plan(planned):
    return planned(SWEEP)


def run(plan, n):
    """Take n trials, each judged by its learning rate."""
    study, storage = plan.open()
    plan.tickets.fill(study)
    for ticket in plan.tickets.state(study).waiting[:n]:
        trial = plan.tickets.claim(study, storage, plan.sampler_of(ticket), ticket)
        rate = trial.suggest_float("model.lr", 0.001, 0.01)
        trial.suggest_categorical("model.sparsity", [0.8, 0.9])
        study.tell(trial, rate)
    return [t.params for t in study.trials if t.value is not None]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_is_cut_draws_what_it_would_have_drawn(plan, sampler):
    straight = dataclasses.replace(plan, name="straight", sampler=sampler)
    straight.create()
    expected = run(straight, 14)
    cut = dataclasses.replace(plan, name="straight", sampler=sampler, storage="sqlite:///cut.db")
    cut.create()
    for n in (3, 1, 7, 3):
        drawn = run(cut, n)
    assert drawn == expected
    assert len({params["model.lr"] for params in drawn}) == 14


def test_one_process_makes_the_study(plan):
    assert plan.create()
    assert not plan.create()


def _with(plan, **settings):
    return dataclasses.replace(plan, config={**plan.config, **settings})


def test_what_decides_nothing_may_change(plan):
    plan.create()
    model = plan.config["model"]
    assert not _with(plan, tracking={**plan.config["tracking"], "experiment": "elsewhere"}).create()
    assert not dataclasses.replace(plan, tickets=Tickets(99, None, 5)).create()
    assert not dataclasses.replace(plan, pruner=MedianPruner()).create()
    assert not _with(plan, model=dict(model)).create()


def test_a_study_that_has_only_failed_may_begin_anew(plan):
    """A misspelt objective is told after the first fit: the name is not lost."""
    plan.create()
    other = dataclasses.replace(plan, objective="val/loss")
    study, storage = plan.open()
    plan.tickets.fill(study)
    trial = claim(plan.tickets, study, storage)
    with pytest.raises(SettingError, match="another configuration"):
        other.create()  # it runs
    study.tell(trial, state=TrialState.FAIL)
    assert other.create()
    assert not other.open()[0].trials
    assert not other.create()


def test_what_decides_may_not(plan):
    plan.create()
    changed = [
        _with(plan, model={**plan.config["model"], "lr": 0.5}),
        dataclasses.replace(plan, space={**plan.space, "model.lr": Range(0.001, 0.02)}),
        dataclasses.replace(plan, seeds=[1]),
        dataclasses.replace(plan, objective="val/loss"),
        dataclasses.replace(plan, sampler="random"),
    ]
    for other in changed:
        with pytest.raises(SettingError, match="the study of that name has another configuration"):
            other.create()


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.9), ("minimize", 0.1)])
def test_the_best_is_that_of_the_direction(plan, direction, best):
    study, storage = make_study(direction)
    tickets = Tickets(3, None, 0)
    tickets.fill(study)
    for value in (0.5, 0.9, 0.1):
        study.tell(claim(tickets, study, storage), value)
    assert best_trial(tickets.state(study), dataclasses.replace(plan, direction=direction)).value == best


def test_a_trials_seeds(plan):
    assert dataclasses.replace(plan, seeds=[4, 5]).seeds_of_a_trial({}) == [4, 5]
    assert plan.seeds_of_a_trial({}) == [plan.config["seed_everything"]]
    assert plan.seeds_of_a_trial({"seed_everything": 7}) == [7]
