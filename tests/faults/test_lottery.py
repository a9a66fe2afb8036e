"""Lotteries whose command or level is killed at any moment."""

import os
import signal
import time

import mlflow
import psutil
import pytest
import torch

from psn_lightning.checkpoints.stored_layers import read_layers
from tests.faults.running import assert_equal, finished, start, store_of
from tests.sweeps.lottery.conftest import FIT

ARGUMENTS = [
    "lottery",
    "--name",
    "mine",
    "--levels=3",
    "--share=0.3",
    "--rewind=3",
    "--checkpoints.every_n_steps=5",
    *FIT,
]


def tickets(folder):
    """Content of the rewind checkpoint and of all tickets, without times and ids of runs."""
    found = {}
    for path in sorted((folder / "mlruns" / "lotteries" / "mine").glob("*.ckpt")):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint.pop("psn_lightning.origin")
        checkpoint["callbacks"].pop("EpochTimer")
        found[path.name] = checkpoint
    return found


def level_process(command):
    """Process of the level that runs, a child of the fork server; None between two levels."""
    try:
        return next((p for child in command.children() for p in child.children()), None)
    except psutil.NoSuchProcess:
        return None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of a lottery that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finished(start(folder, *ARGUMENTS))
    return folder


@pytest.mark.parametrize(("target", "seconds"), [("level", 0.7), ("command", 0.0), ("both", 1.9)])
def test_kills_leave_the_same_tickets(whole, workdir, target, seconds):
    """A process is killed three times, at other moments of its work."""
    for i in range(3):
        process = start(workdir, *ARGUMENTS, "--retries=9")
        command, deadline = psutil.Process(process.pid), time.monotonic() + 240
        while (level := level_process(command)) is None and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(seconds + 0.4 * i)
        if target == "both" and process.poll() is None:
            os.kill(process.pid, signal.SIGSTOP)
        if target != "command" and level is not None and level.is_running():
            level.kill()
        if target != "level":
            process.kill()
        process.communicate(timeout=240)
    finished(start(workdir, *ARGUMENTS))
    one, other = tickets(whole), tickets(workdir)
    assert list(one) == ["level-01.ckpt", "level-02.ckpt", "level-03.ckpt", "rewind.ckpt"]
    assert_equal(one, other)
    counts = [sum(len(x.positions) for x in read_layers(c["state_dict"]).values()) for c in one.values()]
    assert counts == [1344, 941, 659, 1920]
    client = mlflow.MlflowClient(store_of(workdir))
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert "RUNNING" not in {run.info.status for run in runs}
    done = [run for run in runs if run.info.status == "FINISHED" and run.data.tags["stage"] == "fit"]
    assert sorted(run.data.tags["level"] for run in done) == ["0", "1", "2", "3"]
    for run in done:
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "test/accuracy")]
        assert len(steps) == len(set(steps))
