"""Studies in memory, and real sweeps in processes of their own."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import time

import mlflow
import optuna
import yaml
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from psn_lightning.sweeps.liveness import WORKER
from psn_lightning.sweeps.storages import open_storage
from tests.conftest import CONF

FASHION = {
    "name": "twelve",
    "base": [str(CONF / "fashion_rigl.yaml")],
    "space": {"model.sparsity": {"low": 0.8, "high": 0.95}, "model.lr": {"low": 5e-4, "high": 5e-3, "log": True}},
    "settings": {
        "trainer.max_epochs": 3,
        "trainer.limit_train_batches": 60,
        "trainer.callbacks.0.init_args.period": 20,
        "data.init_args.val_fraction": 0.1,
        "model.hidden": [64, 64],
    },
    "sampler": "random",
    "trials": 12,
}


class MemoryStorage(optuna.storages.InMemoryStorage):
    """A storage that is fast and takes heartbeats."""

    def record_heartbeat(self, trial_id):
        pass


def make_study(direction="maximize"):
    """A study in memory, and its storage."""
    storage = MemoryStorage()
    return optuna.create_study(storage=storage, direction=direction), storage


def claim(tickets, study, storage):
    """Claim the first ticket that waits; None if there is none."""
    for ticket in tickets.state(study).waiting:
        trial = tickets.claim(study, storage, RandomSampler(seed=ticket), ticket)
        if trial is not None:
            return trial
    return None


def uri_of(folder):
    """Default tracking URI of a folder's runs."""
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def start(folder, sweep, *arguments, **environment):
    """``psn-train sweep`` as a user starts it."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    command = [sys.executable, "-c", "from psn_lightning.cli import entry_point; entry_point()", "sweep"]
    return subprocess.Popen(
        [*command, "--config", str(path), *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process):
    """What a sweep printed; it must have gone well."""
    printed = process.communicate(timeout=280)[0]
    assert process.returncode == 0, printed
    return printed


@functools.cache
def storage_of(folder, name, storage):
    """A sweep's storage, opened from here; once, a server has a bounded number of connections."""
    with contextlib.chdir(folder):  # the path of the file is relative
        return open_storage(storage, name)


def study(folder, sweep, storage=None):
    """A sweep's study as it stands."""
    return optuna.load_study(study_name=sweep["name"], storage=storage_of(folder, sweep["name"], storage))


def running(folder, sweep, storage=None):
    """A trial that runs and has reported an epoch, once there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            trials = study(folder, sweep, storage).get_trials(states=(TrialState.RUNNING,))
        except KeyError:  # no study yet
            trials = []
        for trial in trials:
            if trial.last_step is not None:
                return trial
        time.sleep(0.1)
    raise AssertionError("no trial ran")


def kill_a_worker(folder, sweep, storage=None):
    """kill -9 in the middle of a trial; returns it."""
    trial = running(folder, sweep, storage)
    os.kill(trial.user_attrs[WORKER]["pid"], signal.SIGKILL)
    return trial


def assert_whole(folder, sweep, n, uri, storage=None, died=0):
    """Every ticket complete once, and one MLflow run for each, nested in the study's."""
    trials = study(folder, sweep, storage).get_trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["ticket"] for trial in complete) == list(range(n))
    assert sum(trial.state == TrialState.FAIL for trial in trials) == died
    assert len(trials) == n + died
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in runs if run.data.tags["stage"] == "sweep"]
    children = [run for run in runs if run.data.tags["stage"] == "fit"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(int(run.data.tags["trial"]) for run in children) == list(range(n))
    assert not any("killed" in run.data.tags for run in children)  # not after they went on
    for child in children:
        (trial,) = [t for t in complete if t.user_attrs["ticket"] == int(child.data.tags["trial"])]
        assert child.data.metrics[sweep.get("objective", "val/accuracy")] == trial.value
        steps = [m.step for m in client.get_metric_history(child.info.run_id, "sparsity/realised")]
        assert len(steps) == len(set(steps))
    return parent, children


def trials_told(printed):
    """Numbers of the trials that a command said to have ended."""
    return sorted(int(number) for number in re.findall(r"^trial (\d+) \(.*\): \w+/\w+ [\d.]+$", printed, re.MULTILINE))
