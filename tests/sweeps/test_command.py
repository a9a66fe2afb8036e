"""Sweeps as a user runs them, with worker processes that die and commands that are stopped."""

import os
import signal
import time

import mlflow
import pytest
from optuna.trial import TrialState

from psn_lightning.cli import main
from psn_lightning.sweeps.tickets import count_deaths
from tests.conftest import CONF
from tests.helpers.sweeps import assert_whole, finished, running, start, study, trials_told, uri_of

pytestmark = pytest.mark.timeout(600)  # many processes that start and end, on machines that do other things

GRID = {
    "name": "eight",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.topology": ["Uniform", "Exponential"], "model.sparsity": [0.8, 0.9], "seed_everything": [1, 2]},
    "settings": {"trainer.max_epochs": 15},
    "sampler": "grid",
    "objective": "test/accuracy",
}


@pytest.mark.faults
def test_a_stopped_grid_goes_on_with_what_is_left(workdir):
    process = start(workdir, GRID)
    while len([t for t in _trials(workdir) if t.state == TrialState.COMPLETE]) < 3:
        time.sleep(0.1)
    running(workdir, GRID)
    client = mlflow.MlflowClient(uri_of(workdir))
    while not client.search_runs(["1"], "tags.stage = 'fit' AND attributes.status = 'RUNNING'"):
        time.sleep(0.05)  # the trial is claimed before its fit begins
    os.killpg(process.pid, signal.SIGTERM)  # to all processes of the command, as timeout(1) does
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert "the same command goes on with the 5 trials that are left" in printed
    (parent,) = client.search_runs(["1"], "tags.stage = 'sweep'")
    assert parent.info.status == "KILLED"
    (stopped,) = client.search_runs(["1"], "tags.stage = 'fit' AND attributes.status = 'KILLED'")
    assert stopped.data.tags["killed"].startswith("stopped at step ")

    assert trials_told(finished(start(workdir, GRID))) == [3, 4, 5, 6, 7]
    assert_whole(workdir, GRID, 8, uri_of(workdir), died=1)  # the one that was running goes on under a new number


def _trials(folder):
    try:
        return study(folder, GRID).get_trials()
    except KeyError:
        return []


@pytest.mark.services
def test_pruned_trials_are_killed_runs_with_the_reason(workdir, client, write):
    """The median, which is the first, ends the second at once: it learns nothing."""
    config = write(
        {
            **GRID,
            "name": "pruned",
            "space": {"model.lr": [0.01, 1e-7], "model.topology": ["Uniform", LOGNORMAL]},
            "settings": {"trainer.max_epochs": 3, "data.init_args.val_fraction": 0.2},
            "objective": "val/accuracy",
            "pruner": {"class_path": "optuna.pruners.MedianPruner", "init_args": {"n_startup_trials": 1}},
            "retrain_seeds": [7],
        }
    )
    assert main(["sweep", "--config", config]) == 0
    runs = {run.data.tags["cell"]: run for run in client.search_runs(["1"], "tags.role = 'trial'")}
    assert len(runs) == 4
    assert runs["lr 1e-07, topology Uniform"].data.tags["killed"].startswith("pruned after epoch 1: val/accuracy 0.")
    for rate in ("0.01", "1e-07"):
        impossible = runs[f"lr {rate}, topology Lognormal(ccv 9)"]
        assert "pruned before training: ccv 9 of Lognormal cannot be reached in fc1" in impossible.data.tags["killed"]
        assert not impossible.data.metrics
    assert [runs[f"lr {rate}, topology Uniform"].info.status for rate in ("0.01", "1e-07")] == ["FINISHED", "KILLED"]
    assert not any("test/accuracy" in run.data.metrics for run in runs.values())
    (retrained,) = client.search_runs(["1"], "tags.role = 'retrained'")
    assert len(client.get_metric_history(retrained.info.run_id, "test/accuracy")) == 1


LOGNORMAL = {"class_path": "Lognormal", "init_args": {"ccv": 9.0}}


def test_a_wrong_setting_is_named_before_a_study_is_created(workdir, write, capfd):
    before = sorted(path.name for path in workdir.rglob("*"))
    for changes, message in WRONG:
        assert main(["sweep", "--config", write({**GRID, **changes})]) == 2
        error = capfd.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) <= 3
        assert sorted(path.name for path in workdir.rglob("*")) == sorted([*before, "sweep.yaml"])


@pytest.mark.services
def test_a_setting_that_only_a_run_finds_wrong_stops_the_sweep(workdir, write, capfd):
    assert main(["sweep", "--config", write({**GRID, "objective": "val/accuracy"})]) == 2
    error = " ".join(capfd.readouterr().err.split())
    assert "objective val/accuracy: the runs have no such metric" in error
    (trial,) = [trial for trial in _trials(workdir) if trial.state == TrialState.FAIL]
    assert count_deaths([trial]) == 0


WRONG = [
    ({"space": {"model.sparsty": [0.8]}}, "no setting 'sparsty' there; the nearest is 'sparsity'"),
    ({"space": {"model.sparsity": [0.8, 0.9, "much"]}}, "sparsity"),
    ({"name": "a/b"}, "name 'a/b' of the study must be a word"),
    ({"sampler": "tpe", "trials": 3}, "a search would choose by the test set"),
    ({"storage": "postgresql://nobody@127.0.0.1:1/x"}, "storage postgresql://nobody@127.0.0.1:1/x cannot be used"),
    ({"storage": "sqlite:///mlruns/mlflow.db"}, "is the database that MLflow uses"),
]
