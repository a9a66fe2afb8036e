"""Keeps the workers of a study going until nothing is left to do."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path

import optuna
import torch
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError, compact
from psn_lightning.sweeps.display import Display
from psn_lightning.sweeps.liveness import Watch
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.storages import FOLDER
from psn_lightning.sweeps.tickets import TICKET, State
from psn_lightning.sweeps.worker import REFUSED, Orders, work
from psn_lightning.tracking.store import StoreAwayError

_LOOK_SECONDS = 0.5
_FAILED = 1  # exit code of Python where an exception ends it
_CRASHES = 5  # of workers in a row without a trial ended between them: they cannot work here
_AWAY = (MlflowException, SQLAlchemyError, OSError, StoreAwayError)  # of MLflow, or of a disk


class Stopped(Exception):
    """The user asked the sweep to stop; its text says what is left."""


class Supervisor:
    """Runs a study on a number of local processes.

    Args:
        plan: The study.
        workers: Number of processes; torch's threads and the GPUs are shared out between them.
        on_progress: Called with the study and its state whenever a trial has ended.
        until: No trial begins after this moment of ``time.monotonic``.
    """

    def __init__(
        self,
        plan: Plan,
        workers: int,
        on_progress: Callable[[optuna.Study, State], None] | None = None,
        until: float = math.inf,
    ) -> None:
        self._plan = plan
        self._n = workers
        self._on_progress = on_progress
        self._context = multiprocessing.get_context("spawn")
        self._orders = Orders(self._context.Event(), self._context.SimpleQueue())
        self._workers: dict[int, SpawnProcess] = {}
        self._until = until
        self._requests = 0
        self._crashes = 0

    def run(self) -> State:
        """Have every trial done.

        Returns:
            The study at its end.

        Raises:
            SettingError: If a worker found a setting that cannot work, or workers die one after the other.
            Stopped: If the user asked for it.
        """
        study, storage = self._plan.open()
        watch = Watch(study, storage)
        state = self._plan.tickets.state(study)
        with Display(self._plan, self._n) as display, self._listening():
            if state.settled:
                display.nothing_left(state)
                self._tell(study, state, display)  # a command that was killed may have left older figures
                return state
            while True:
                state = self._look(study, watch, display)
                if self._closing and not self._workers:
                    raise Stopped(f"the {len(state.running) + state.waiting} trials that are left")
                if state.settled and not self._workers:
                    return state
                time.sleep(_LOOK_SECONDS)

    @property
    def _closing(self) -> bool:
        """Whether no trial is to begin any more."""
        return self._orders.stop.is_set()

    def _look(self, study: optuna.Study, watch: Watch, display: Display) -> State:
        """See who has died and what has ended; start who is missing."""
        if time.monotonic() > self._until and not self._closing:
            self._orders.stop.set()
            display.say("the time is spent; what runs comes to its end")
        self._collect(display)
        for trial in watch.bury():
            display.say(f"trial {trial.user_attrs[TICKET]} is tried again, its worker died")
        if not self._closing:
            self._plan.tickets.fill(study)
        state = self._plan.tickets.state(study)
        if display.show(state, {slot: process.pid for slot, process in self._workers.items()}):
            self._crashes = 0
            self._tell(study, state, display)
        free = [slot for slot in range(self._n) if slot not in self._workers]
        for slot in free[: state.waiting]:
            if not self._closing:
                self._workers[slot] = self._start(slot)
        return state

    def _tell(self, study: optuna.Study, state: State, display: Display) -> None:
        """Bring the study's run up to date; what cannot be told now is told with the next trial."""
        if self._on_progress is None:
            return
        try:
            self._on_progress(study, state)
        except _AWAY as error:
            display.say(f"not everything is up to date: {compact(error)}")

    def _start(self, slot: int) -> SpawnProcess:
        threads = max(1, torch.get_num_threads() // self._n)
        process = self._context.Process(target=work, args=(self._plan, threads, self._log(slot), self._orders))
        with _environment(OMP_NUM_THREADS=str(threads), **_gpu_of(slot)):
            process.start()
        return process

    def _log(self, slot: int) -> Path:
        """Where a worker prints to."""
        return FOLDER / f"{self._plan.family}-{socket.gethostname()}-worker{slot + 1}.log"

    def _collect(self, display: Display) -> None:
        """Take leave of the workers that have ended.

        Raises:
            SettingError: If one of them found a setting that cannot work, or could not begin.
        """
        for slot, process in list(self._workers.items()):
            if process.exitcode is None:
                continue
            del self._workers[slot]
            if process.exitcode == REFUSED and not self._orders.told.empty():
                raise SettingError(self._orders.told.get())
            if process.exitcode < 0:
                display.say(f"worker {slot + 1} was ended by {signal.Signals(-process.exitcode).name}")
                self._crashes += 1
            elif process.exitcode:
                self._crashes = _CRASHES
            if self._crashes >= _CRASHES:
                raise SettingError(f"worker {slot + 1} could not work; see {self._log(slot)}")

    def _end(self) -> None:
        """Ask all workers to stop, and wait until they have."""
        for process in self._workers.values():
            process.terminate()
        for process in self._workers.values():
            process.join()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM: the workers finish their step and write a checkpoint. The third time they are killed."""

        def stop(*_: object) -> None:
            self._requests += 1
            self._orders.stop.set()
            for process in list(self._workers.values()):
                process.kill() if self._requests > 2 else process.terminate()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)


def _gpu_of(slot: int) -> dict[str, str]:
    """Environment that gives a worker one GPU, in turn; empty on a machine without."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": names[slot % len(names)]} if names else {}


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
