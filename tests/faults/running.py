"""Real fits in processes of their own, and a real MLflow server, to be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import mlflow
import torch

from tests.conftest import CONF, QUIET
from tests.services.conftest import free_port

COMMAND = [sys.executable, "-c", "from psn_lightning.cli import entry_point; entry_point()"]
FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.callbacks.init_args.period=7"]


def start(folder, *arguments, **environment):
    """``psn-train`` as a user starts it."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process, code=0):
    """What it printed; it must have ended with that exit code."""
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == code, printed
    assert "Traceback" not in printed, printed
    return printed


def checkpoints(folder, name="last"):
    """Checkpoints of the runs in a folder, newest last."""
    return sorted(folder.glob(f"mlruns/*/*/checkpoints/{name}.ckpt"), key=lambda path: path.stat().st_mtime)


def step_of(folder):
    """Where the newest run stands; -1 without a checkpoint."""
    found = checkpoints(folder)
    return torch.load(found[-1], weights_only=True)["global_step"] if found else -1


def wait_until(condition, process=None, seconds=240):
    """Look until something is so, as long as the process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def history(uri, experiment="psn_lightning"):
    """Every metric of an experiment's only run but times, as (step, value); and the run."""
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    keys = [key for key in run.data.metrics if not key.startswith("time/")]
    return {key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)] for key in keys}, run


def artifacts(uri, run):
    """Paths of all artifacts of a run."""
    client, found, folders = mlflow.MlflowClient(uri), set(), [None]
    while folders:
        for entry in client.list_artifacts(run.info.run_id, folders.pop()):
            folders += [entry.path] if entry.is_dir else []
            found |= set() if entry.is_dir else {entry.path}
    return found


def store_of(folder):
    """Where a folder's runs are tracked by default."""
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def assert_same_end(one, other):
    """Weights, masks and moments of two final checkpoints are equal bit for bit."""
    states = [torch.load(checkpoints(folder)[-1], weights_only=True) for folder in (one, other)]
    assert states[0]["global_step"] == states[1]["global_step"]
    assert_equal(states[0]["state_dict"], states[1]["state_dict"])
    assert_equal(states[0]["optimizer_states"], states[1]["optimizer_states"])


def assert_equal(a, b):
    """Nested values with tensors in them are the same, bit for bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


class Server:
    """MLflow's server on a database and artifacts that outlive it."""

    def __init__(self, folder):
        self.folder = folder
        self._port = free_port()
        self._process = None
        self.uri = f"http://127.0.0.1:{self._port}"
        folder.mkdir()

    def __enter__(self):
        self.begin()
        return self

    def __exit__(self, *_):
        self.end()

    def begin(self):
        """Start it, or bring it back."""
        command = [Path(sys.executable).with_name("mlflow"), "server", "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        stores += ["--artifacts-destination", self.folder / "artifacts"]
        where = ["--host", "127.0.0.1", "--port", str(self._port)]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, *stores, *where], stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, self._process)

    def _answers(self):
        try:
            urlopen(f"{self.uri}/health", timeout=2).close()
        except OSError:
            return False
        return True

    def end(self):
        """Take it away, with kill -9."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def hang(self):
        """It takes connections and never answers."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def wake(self):
        """It goes on."""
        os.killpg(self._process.pid, signal.SIGCONT)
