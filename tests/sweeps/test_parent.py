"""The MLflow run of a study."""

import pytest
import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.plan import parent_run
from psn_lightning.sweeps.tickets import fail_trial
from psn_lightning.tracking.store import KILLED_TAG
from tests.conftest import CONF
from tests.helpers.sweeps import claim

SWEEP = {
    "name": "small",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.lr": {"low": 0.001, "high": 0.01}},
    "trials": 2,
    "retries": 0,
}


@pytest.fixture
def plan(planned):
    return planned(SWEEP)


@pytest.fixture
def parent(plan):
    return StudyRun(plan, yaml.safe_dump(SWEEP))


def status(client):
    (run,) = client.search_runs(["1"], "tags.stage = 'sweep'")
    return run.info.status


@pytest.mark.parametrize(
    ("error", "ending"), [(None, "FINISHED"), (SIGTERMException("stopped"), "KILLED"), (ValueError("x"), "FAILED")]
)
def test_its_status_is_that_of_the_command(parent, client, error, ending):
    try:
        with parent:
            assert status(client) == "RUNNING"
            if error is not None:
                raise error
    except (SIGTERMException, ValueError):
        pass
    assert status(client) == ending


def test_a_command_that_goes_on_has_the_same_run(plan, parent, client):
    """Also where it was killed, and found so."""
    (run,) = client.search_runs(["1"], "tags.stage = 'sweep'")
    client.set_tag(run.info.run_id, KILLED_TAG, "process 1 died")
    with StudyRun(plan, yaml.safe_dump(SWEEP)):
        pass
    assert status(client) == "FINISHED"
    assert KILLED_TAG not in client.get_run(run.info.run_id).data.tags
    assert parent_run(plan.open()[0]) == client.search_runs(["1"])[0].info.run_id


def test_metrics_are_logged_once_and_figures_are_there(plan, parent, client):
    study, storage = plan.open()
    plan.tickets.fill(study)
    trial = claim(plan.tickets, study, storage)
    trial.suggest_float("model.lr", 0.001, 0.01)
    study.tell(trial, 0.75)
    for _ in range(2):
        parent.refresh(study, plan.tickets.state(study))
    (run,) = client.search_runs(["1"])
    assert run.data.metrics == {"trials/complete": 1.0, "trials/pruned": 0.0, "best/val/accuracy": 0.75}
    assert len(client.get_metric_history(run.info.run_id, "trials/complete")) == 1
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert names >= {"history.png", "lr_against_objective.png", "sweep.yaml", "config.yaml"}


def test_runs_of_lost_trials_fail(plan, parent, client):
    study, storage = plan.open()
    plan.tickets.fill(study)
    fail_trial(study, claim(plan.tickets, study, storage), "IndexError: out of range")
    tags = {"mlflow.parentRunId": parent_run(study), "trial": "0", "role": "trial"}
    run = client.create_run("1", tags=tags).info.run_id
    parent.mark_lost(plan, plan.tickets.state(study))
    assert client.get_run(run).info.status == "FAILED"
    assert client.get_run(run).data.tags["failed"] == "IndexError: out of range"
