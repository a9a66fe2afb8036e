"""Order, tries and ends of the levels, with processes that only seem to run."""

import os
import signal

import pytest
from mlflow.exceptions import MlflowException

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.lottery import driver
from psn_lightning.sweeps.lottery.driver import Driver, Stopped, list_levels
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles, Result
from psn_lightning.sweeps.lottery.settings import Lottery


class FakeProcess:
    """Process that has ended with a code."""

    def __init__(self, exitcode):
        self.exitcode = exitcode

    def join(self, timeout=None):
        pass

    terminate = kill = join


@pytest.fixture
def run(workdir, monkeypatch):
    """Run a lottery whose processes act by a function of level and try, which returns the exit code."""

    def run(act, on_progress=lambda results: None, **settings):
        lottery = Lottery("mine", **{"levels": 2, **settings})
        files, started = LotteryFiles("mine"), []
        files.folder.mkdir(parents=True, exist_ok=True)

        def start(context, target, arguments):
            job, _, _, sender = arguments
            started.append(job.level)
            code = act(job.level, started.count(job.level))
            sender.send((1, 0.5))
            if code == 0:
                files.write_result(job.level, Result("run", "ckpt", 10 - job.level.number, 0.9, lottery.metric))
            elif code == 2:
                files.log(job.level).write_text("psn-train: the message\n")
            return FakeProcess(code)

        monkeypatch.setattr(driver, "start_process", start)
        config = {"trainer": {"max_epochs": 1}}
        return started, lambda: Driver(lottery, config, "parent", on_progress).run()

    return run


def test_tickets_come_first_and_then_their_controls():
    levels = list_levels(Lottery("a", levels=2, controls=("shuffle", "redraw")))
    assert levels == [Level(0), Level(1), Level(2), *(Level(i, c) for c in ("shuffle", "redraw") for i in (1, 2))]
    assert list_levels(Lottery("a", levels=5, one_shot=True)) == [Level(0), Level(1)]


def test_levels_run_in_order_once_and_progress_is_reported(run):
    reports = []
    started, go = run(lambda level, n: 0, lambda results: reports.append(len(results)))
    results = go()
    assert started == list(results) == [Level(0), Level(1), Level(2)]
    assert reports == [1, 2, 3]
    started, go = run(lambda level, n: 0, lambda results: reports.append(len(results)))
    assert go() == results
    assert not started
    assert reports == [1, 2, 3, 3]


def test_a_process_that_dies_is_started_again_and_then_given_up(run, capsys):
    started, go = run(lambda level, n: -9 if level == Level(1) and n < 3 else 0, retries=2)
    assert len(go()) == 3
    assert started == [Level(0), *[Level(1)] * 3, Level(2)]
    assert capsys.readouterr().out.count("the process of level-01 ended with SIGKILL") == 2
    started, go = run(lambda level, n: 1, retries=1, levels=3)
    with pytest.raises(SettingError, match="level-03 failed 2 times, the last time with exit code 1"):
        go()


def test_a_message_ends_the_command(run):
    started, go = run(lambda level, n: 2)
    with pytest.raises(SettingError, match="the message"):
        go()
    assert started == [Level(0)]


def test_a_level_that_was_stopped_stops_the_command(run):
    _, go = run(lambda level, n: 143 if level == Level(1) else 0)
    with pytest.raises(Stopped, match="the 2 fits that are left"):
        go()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_no_further_level_start(run, number):
    before = signal.getsignal(number)

    def stop(level, n):
        os.kill(os.getpid(), number)
        return 0

    started, go = run(stop)
    with pytest.raises(Stopped, match="the 2 fits"):
        go()
    assert started == [Level(0)]
    assert signal.getsignal(number) is before


def test_an_outage_of_mlflow_is_said_and_costs_nothing(run, capsys):
    def fail(results):
        raise MlflowException("away")

    _, go = run(lambda level, n: 0, fail)
    assert len(go()) == 3
    assert capsys.readouterr().out.count("MLflow is not up to date: away") == 3
