"""Lotteries of small fits on the digits, run in the test's own process."""

import contextlib
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import torch

from psn_lightning.commands.exit_codes import STOPPED
from psn_lightning.sweeps.lottery.driver import list_levels
from psn_lightning.sweeps.lottery.files import LotteryFiles
from psn_lightning.sweeps.lottery.parent import LotteryRun
from psn_lightning.sweeps.lottery.settings import configuration, parse
from psn_lightning.sweeps.lottery.worker import Job, run_level
from tests.conftest import CONF, QUIET

FIT = [
    *("--config", str(CONF / "quickstart.yaml"), *QUIET, "--model.sparsity=0", "--model.hidden=[24,16]"),
    *("--trainer.callbacks=[]", "--trainer.max_epochs=2", "--data.init_args.batch_size=120"),
]  # two epochs of 12 steps


def run_in_process(*arguments, stop=None, fit=FIT):
    """Run a lottery without processes of its own; returns its files, results, settings and parent run.

    With a callback ``stop`` the first try of every level is stopped by it; ``fit`` are the arguments of the fits.
    """
    lottery, others = parse(["--name", "mine", *fit, *arguments])
    config = configuration(others)
    parent, files, results = LotteryRun(lottery, config), LotteryFiles(lottery.name), {}
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        for level in list_levels(lottery):
            job = Job(lottery, config, parent.id, level)
            if stop is not None:
                assert run_level(job, stop) == STOPPED
                assert files.read_result(level, lottery.metric) is None
            assert run_level(job) == 0
            results[level] = files.read_result(level, lottery.metric)
    return SimpleNamespace(lottery=lottery, config=config, parent=parent, files=files, results=results)


@pytest.fixture
def run_lottery(client):
    return run_in_process


@pytest.fixture(scope="session")
def _lottery(tmp_path_factory, _empty_store):
    """Two levels at 30%, with both controls; made once."""
    folder = tmp_path_factory.mktemp("lottery")
    (folder / "mlruns").mkdir()
    shutil.copy(_empty_store, folder / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return run_in_process("--levels=2", "--share=0.3", "--control", "redraw", "shuffle"), folder


@pytest.fixture
def lottery(_lottery, monkeypatch):
    """The lottery that is made once, in its folder; tests leave it as it is."""
    made, folder = _lottery
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made.client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    made.final = {level: torch.load(Path(r.checkpoint), weights_only=True) for level, r in made.results.items()}
    return made


@pytest.fixture
def final():
    """Last checkpoints of a lottery, in order."""
    return lambda made: [torch.load(result.checkpoint, weights_only=True) for result in made.results.values()]
