"""Lotteries whose command or level is killed at any moment."""

import contextlib
import signal
import time
from pathlib import Path

import mlflow
import psutil
import pytest
import torch

from psn_lightning.checkpoints.stored_layers import read_layers
from tests.faults.running import assert_equal, finished, start, store_of
from tests.sweeps.lottery.conftest import FIT

FOLDER = Path("mlruns") / "lotteries" / "mine"
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
    for path in sorted((folder / FOLDER).glob("*.ckpt")):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint.pop("psn_lightning.origin")
        checkpoint["callbacks"].pop("EpochTimer")
        checkpoint["callbacks"].pop("BestAndLast", None)  # has the folder of its run
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


MOMENTS = {
    "before the first step": lambda folder: (folder / "rewind.ckpt").exists(),
    "within the first fit": lambda folder: len(last_checkpoints(folder)) == 1,
    "before the fit of a ticket": lambda folder: (folder / "level-01.ckpt").exists(),
    "within the fit of a ticket": lambda folder: len(last_checkpoints(folder)) == 2,
    "at the next level": lambda folder: (folder / "level-02.ckpt").exists(),
}
"""Moments of a lottery that has the folder; the first look at which it is so."""


def last_checkpoints(folder):
    return list(folder.parent.parent.glob("*/*/checkpoints/last.ckpt"))


@pytest.mark.parametrize("target", ["level", "command", "both"])
def test_kills_leave_the_same_tickets(whole, workdir, target):
    """A lottery is killed at five moments, one after the other."""
    n_killed = 0
    for is_time in MOMENTS.values():
        process = start(workdir, *ARGUMENTS, "--retries=0")
        command, deadline, level = psutil.Process(process.pid), time.monotonic() + 240, None
        while process.poll() is None and not ((level := level_process(command)) and is_time(workdir / FOLDER)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if target == "both":
            process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(psutil.NoSuchProcess):  # the level has just ended
            if target != "command" and level is not None:
                level.kill()
                n_killed += 1
        if target != "level":
            process.kill()
            n_killed += 1
        process.communicate(timeout=240)
    assert n_killed > 2
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
