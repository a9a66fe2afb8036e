"""``psn-train lottery`` with its processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from psn_lightning.cli import main
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles
from tests.sweeps.lottery.conftest import FIT

ARGUMENTS = ["lottery", "--name", "mine", "--levels=2", "--share=0.3", *FIT]
METRIC = "test/accuracy"


def test_a_wrong_setting_is_named_before_anything_is_written(workdir, capfd):
    before = sorted(workdir.rglob("*"))
    wrong = {
        "--levels=0": "levels 0",
        "--model.hiden=3": "hiden",
        "--trainer.num_nodes=2": "num_nodes 2",
        "--trainer.logger=false": "logger false",
        "--trainer.fast_dev_run=true": "fast_dev_run",
    }
    for argument, message in wrong.items():
        assert main([*ARGUMENTS, argument]) == 2
        error = capfd.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert sorted(workdir.rglob("*")) == before


def test_what_is_done_is_not_done_again(lottery, capfd):
    """By a command that begins no process."""
    before = {path: path.stat().st_mtime_ns for path in lottery.files.folder.glob("level-*")}
    assert main([*ARGUMENTS, "--control", "redraw", "shuffle"]) == 0
    assert {path: path.stat().st_mtime_ns for path in lottery.files.folder.glob("level-*")} == before
    printed = capfd.readouterr().out
    for level, result in lottery.results.items():
        assert f"{result.value:.4f}" in printed, level
    assert main([*ARGUMENTS, "--seed_everything=1"]) == 2
    assert "has another configuration" in capfd.readouterr().err


@pytest.mark.services
def test_levels_in_processes_are_those_in_this_one(lottery, workdir, capfd):
    assert main(ARGUMENTS) == 0
    files = LotteryFiles("mine")
    for level in (Level(0), Level(1), Level(2)):
        assert files.read_result(level, METRIC).value == lottery.results[level].value
    assert "level-02: 49.01% left" in capfd.readouterr().out
    assert main([*ARGUMENTS, "--levels=3"]) == 0  # later options win: one more level
    assert files.read_result(Level(3), METRIC).connections == 659


@pytest.mark.services
def test_a_message_of_a_level_ends_the_command(workdir, capfd):
    assert main([*ARGUMENTS, "--trainer.callbacks=RigL"]) == 2
    assert "psn-train: a lottery prunes between its fits, and RigL would change" in capfd.readouterr().err


@pytest.mark.services
def test_a_level_whose_process_fails_is_tried_again_and_then_given_up(workdir, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(workdir))
    (workdir / "broken.py").write_text("import lightning.pytorch as pl\n\n\nclass Broken(pl.Callback):\n")
    with (workdir / "broken.py").open("a") as file:
        file.write("    def on_train_start(self, trainer, pl_module):\n        raise KeyError('broken')\n")
    monkeypatch.syspath_prepend(str(workdir))
    assert main([*ARGUMENTS, "--retries=1", "--trainer.callbacks=broken.Broken"]) == 2
    output = capfd.readouterr()
    assert output.out.count("the process of level-00 ended with exit code 1") == 2
    assert "level-00 failed 2 times, the last time with exit code 1" in output.err
    assert "KeyError" in LotteryFiles("mine").log(Level(0)).read_text()


@pytest.mark.services
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_passed_on_and_the_same_command_goes_on(number, workdir):
    long = [*ARGUMENTS, "--trainer.max_epochs=400"]
    code = "from psn_lightning.cli import entry_point; entry_point()"
    process = subprocess.Popen([sys.executable, "-c", code, *long], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(workdir.glob("mlruns/*/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "the same command goes on with the 3 fits that are left" in error
