"""Runs the levels of a lottery one after the other, each in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.commands.exit_codes import STOPPED, USER_ERROR
from psn_lightning.errors import SettingError, compact
from psn_lightning.sweeps.launchers import fork_context, start_process
from psn_lightning.sweeps.logs import read_message
from psn_lightning.sweeps.lottery.display import Display
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles, Result
from psn_lightning.sweeps.lottery.settings import Lottery
from psn_lightning.sweeps.lottery.worker import Job, start_level
from psn_lightning.sweeps.worker import DONE
from psn_lightning.tracking.store import StoreAwayError

_MLFLOW_ERRORS = (MlflowException, StoreAwayError, SQLAlchemyError, OSError)

Results = Mapping[Level, Result]


class Stopped(Exception):
    """The user stopped the lottery; the text says what is left."""


def list_levels(lottery: Lottery) -> list[Level]:
    """Fits of a lottery in order: the first one, the tickets, then each control of every ticket."""
    numbers = range(1, lottery.n_levels + 1)
    return [Level(0), *map(Level, numbers), *(Level(i, control) for control in lottery.controls for i in numbers)]


class Driver:
    """Runs a lottery.

    Args:
        lottery: Settings of the lottery.
        config: Complete configuration of the fits.
        parent: MLflow run of the lottery.
        on_progress: Function of the results so far, called after every level.
    """

    def __init__(
        self, lottery: Lottery, config: dict[str, Any], parent: str, on_progress: Callable[[Results], None]
    ) -> None:
        self._lottery = lottery
        self._config = config
        self._parent = parent
        self._on_progress = on_progress
        self._files = LotteryFiles(lottery.name)
        self._context = fork_context()
        self._process: ForkServerProcess | None = None
        self._stops = 0

    def run(self) -> dict[Level, Result]:
        """Run all levels that are not finished.

        Returns:
            Results of all levels.

        Raises:
            SettingError: If a setting cannot work, or the processes of a level died too often.
            Stopped: If the user stopped the lottery.
        """
        results: dict[Level, Result] = {}
        levels = list_levels(self._lottery)
        display = Display(self._lottery, self._config["trainer"]["max_epochs"], len(levels))
        with display, self._handle_signals():
            for level in levels:
                known = self._files.read_result(level, self._lottery.metric)
                results[level] = known or self._run_level(level, display, len(levels) - len(results))
                display.show_result(level, results, is_new=known is None)
                if known is None or level == levels[-1]:  # a killed command may have left an older figure
                    self._report_progress(results, display)
        return results

    def _report_progress(self, results: Results, display: Display) -> None:
        """Update the lottery's run in MLflow; what fails now is made up for after the next level."""
        try:
            self._on_progress(results)
        except _MLFLOW_ERRORS as error:
            display.print_line(f"MLflow is not up to date: {compact(error)}")

    def _run_level(self, level: Level, display: Display, n_left: int) -> Result:
        for _ in range(self._lottery.retries + 1):
            if self._stops:
                raise Stopped(f"the {n_left} fits that are left")
            code = self._run_process(level, display)
            if code == DONE and (result := self._files.read_result(level, self._lottery.metric)) is not None:
                return result
            if self._stops or code == STOPPED:
                raise Stopped(f"the {n_left} fits that are left")
            log = self._files.log(level)
            message = read_message(log) if code == USER_ERROR else None
            if message is not None:
                raise SettingError(message)
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            display.print_line(f"the process of {level.name} ended with {cause}; see {log}")
        raise SettingError(
            f"{level.name} failed {self._lottery.retries + 1} times, the last time with {cause}; see {log}. The same "
            "command tries again"
        )

    def _run_process(self, level: Level, display: Display) -> int:
        """Run the process of a level, and return its exit code."""
        job = Job(self._lottery, self._config, self._parent, level)
        progress, sender = self._context.Pipe(duplex=False)
        threads = torch.get_num_threads()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        display.show_start(level)
        self._process = process = start_process(self._context, start_level, (job, threads, environment, sender))
        sender.close()
        if self._stops:  # the signal came between
            process.terminate()
        try:
            while True:
                display.show_epoch(*progress.recv())
        except EOFError:  # the process has ended
            process.join()
        finally:
            progress.close()
        self._process = None
        code = process.exitcode
        assert code is not None, "the process has been waited for"
        return code

    @contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """Stop the level on Ctrl-C and SIGTERM: it finishes the step and writes a checkpoint.

        The third request kills it. On leaving the context, a process that still runs is stopped.
        """

        def stop(*_: object) -> None:
            self._stops += 1
            if self._process is not None:
                self._process.kill() if self._stops > 2 else self._process.terminate()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            if self._process is not None:
                self._process.terminate()
                self._process.join()
            for number, handler in before.items():
                signal.signal(number, handler)
