import dataclasses
import gc
import shutil
import signal

import optuna
import pytest
import yaml

from psn_lightning.data import ClassificationData
from psn_lightning.sweeps.liveness import REASON
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.tickets import seed_values
from psn_lightning.sweeps.trials import run_trial
from tests.conftest import CONF
from tests.helpers.sweeps import claim

SWEEP = {
    "name": "small",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.sparsity": [0.8, 0.9]},
    "settings": {"trainer.max_epochs": 2, "trainer.callbacks": None, "data.init_args.val_fraction": 0.2},
    "sampler": "grid",
    "seeds": [1, 3],
}


@pytest.fixture
def plan(planned):
    plan = planned(SWEEP)
    StudyRun(plan, yaml.safe_dump(SWEEP))
    return plan


def claimed(plan):
    study, storage = plan.open()
    plan.tickets.fill(study)
    return claim(plan.tickets, study, storage)


def test_a_trial_is_the_mean_of_its_seeds_leaves_nothing_in_memory_and_is_not_run_again(plan, client):
    before = signal.getsignal(signal.SIGTERM)
    trial = claimed(plan)
    gc.collect()
    alive = sum(issubclass(type(o), ClassificationData) for o in gc.get_objects())
    value = run_trial(trial, plan)
    values = seed_values(optuna.load_study(study_name=plan.name, storage=plan.open()[1]).trials[0])
    assert len(set(values)) > 1
    assert value == sum(values) / 2
    assert sum(issubclass(type(o), ClassificationData) for o in gc.get_objects()) == alive
    assert signal.getsignal(signal.SIGTERM) is before
    runs = client.search_runs(["1"], "tags.stage = 'fit'")
    ends = {run.info.run_id: run.info.end_time for run in runs}
    assert run_trial(trial, plan) == value  # its results are in the trial
    trial.set_user_attr("seed_3", None)
    assert run_trial(trial, plan) == value  # and in MLflow
    assert {run.info.run_id: run.info.end_time for run in client.search_runs(["1"], "tags.stage = 'fit'")} == ends


def test_a_run_of_an_earlier_study_of_that_name_is_not_taken_for_ones_own(plan, client, planned):
    run_trial(claimed(plan), dataclasses.replace(plan, seeds=[1]))
    shutil.rmtree("mlruns/studies")
    other = planned({**SWEEP, "space": {"model.sparsity": [0.5, 0.6]}})
    StudyRun(other, yaml.safe_dump(SWEEP))
    trial = claimed(other)
    run_trial(trial, dataclasses.replace(other, seeds=[1]))
    runs = client.search_runs(["1"], "tags.stage = 'fit' AND attributes.run_name = 'small-000-seed1'")
    assert sorted(run.data.params["model.sparsity"] for run in runs) == ["0.5", "0.8"]


def test_a_run_that_died_before_its_look_at_the_test_set_has_it_now(plan, client):
    trial = claimed(plan)
    plan = dataclasses.replace(plan, seeds=[1])
    run_trial(trial, plan)  # fits, and is FINISHED without test/accuracy
    looks = dataclasses.replace(plan, objective="test/accuracy", sees_test_set=True)
    trial.set_user_attr("seed_1", None)
    value = run_trial(trial, looks)
    (run,) = client.search_runs(["1"], "tags.stage = 'fit'")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == value
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/accuracy")]
    assert len(steps) == len(set(steps)) == 2


def test_what_is_not_a_number_is_pruned(planned, client):
    plan = planned({**SWEEP, "settings": {**SWEEP["settings"], "model.lr": 1e30}, "objective": "val/loss"})
    StudyRun(plan, yaml.safe_dump(SWEEP))
    trial = claimed(plan)
    with pytest.raises(optuna.TrialPruned, match="seed 1: the loss is nan at step"):
        run_trial(trial, plan)
    assert "seed 1: the loss is nan at step" in trial.user_attrs[REASON]
    (run,) = client.search_runs(["1"], "tags.stage = 'fit'")
    assert run.info.status == "KILLED"
    assert "the loss is nan at step" in run.data.tags["killed"]
