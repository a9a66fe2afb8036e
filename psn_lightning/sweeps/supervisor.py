"""Supervisor of a study: starts a worker for every trial that waits, until none is left."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from mlflow.exceptions import MlflowException
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.commands.exit_codes import STOPPED, USER_ERROR
from psn_lightning.errors import SettingError, compact
from psn_lightning.sweeps.display import Display
from psn_lightning.sweeps.launchers import Launcher, Worker
from psn_lightning.sweeps.liveness import fail_dead_trials
from psn_lightning.sweeps.logs import read_message, trial_log
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.storages import STORAGE_ERRORS, storage_error, storage_url
from psn_lightning.sweeps.tickets import TICKET, State, trials_by_ticket
from psn_lightning.sweeps.worker import DONE
from psn_lightning.tracking.store import StoreAwayError

_LOOK_SECONDS = 1.0
_REPORT_PAUSE = 10  # times as long as a report took: drawing may take seconds, in which no trial is started
_LONGEST_PAUSE = 120.0  # seconds, whatever the last report took: the machine may have been paused in the middle of it
_MAX_DEATHS = 5  # of workers in a row that wrote nothing to the study: workers cannot run here
_MLFLOW_ERRORS = (MlflowException, StoreAwayError, SQLAlchemyError, OSError)


class Stopped(Exception):
    """The user stopped the sweep; the text says what is left."""


@dataclass
class _Slot:
    """A worker that was started, and the ticket it was started for."""

    worker: Worker
    ticket: int


class Supervisor:
    """Runs a study.

    Args:
        plan: Study to run.
        launcher: Starts the workers.
        on_progress: Function of the study and its state, called when trials have ended, at the latest when all have.
        until: Moment of ``time.monotonic`` after which no trial is started.
    """

    def __init__(
        self,
        plan: Plan,
        launcher: Launcher,
        on_progress: Callable[[optuna.Study, State], None] | None = None,
        until: float = math.inf,
    ) -> None:
        self._plan = plan
        self._launcher = launcher
        self._on_progress = on_progress
        self._until = until
        self._slots: dict[int, _Slot] = {}
        self._stops = 0
        self._deaths = 0
        self._is_behind = False
        self._next_report = -math.inf

    def run(self) -> State:
        """Run all trials.

        Returns:
            State of the study at its end.

        Raises:
            SettingError: If a worker finds a setting that cannot work, workers die one after the other, or the storage
                does not work.
            Stopped: If the user stopped the sweep, or its time is over.
        """
        study, storage = self._plan.open()
        try:
            with Display(self._plan, self._launcher.workers) as display, self._handle_signals():
                return self._run(study, storage, display)
        except STORAGE_ERRORS as error:
            raise storage_error(storage_url(self._plan.storage, self._plan.family), error) from error

    def _run(self, study: optuna.Study, storage: RDBStorage, display: Display) -> State:
        state = self._plan.tickets.state(study)
        if state.settled:
            display.show_nothing_left(state)
            self._report_progress(study, state, display)  # a command that was killed may have left older figures
            return state
        while True:
            state = self._look(study, storage, display)
            if not self._slots and state.settled:
                return state
            if not self._slots and self._closing:
                raise Stopped(f"the {state.n_left} trials that are left")
            self._launcher.pause([slot.worker for slot in self._slots.values()], _LOOK_SECONDS)

    @property
    def _closing(self) -> bool:
        """Whether no further trial is started."""
        return self._stops > 0 or time.monotonic() > self._until

    def _look(self, study: optuna.Study, storage: RDBStorage, display: Display) -> State:
        """Find what has died and what has ended, and start workers for trials that wait."""
        self._reap_workers(study, display)
        for trial in fail_dead_trials(study, storage):
            display.print_line(f"trial {trial.user_attrs[TICKET]}: its worker died")
        if not self._closing:
            self._plan.tickets.fill(study)
            self._plan.tickets.take_back_duplicates(study, storage)
        state = self._plan.tickets.state(study)
        self._start_workers(state)
        if display.show(state, {number: slot.ticket for number, slot in self._slots.items()}, self._closing):
            self._deaths = 0
            self._is_behind = True
        over = not self._slots and (state.settled or self._closing)
        if self._is_behind and (over or time.monotonic() > self._next_report):
            self._report_progress(study, state, display)
        return state

    def _start_workers(self, state: State) -> None:
        started = {slot.ticket for slot in self._slots.values()}
        waiting = [ticket for ticket in state.waiting if ticket not in started]
        free = [number for number in range(self._launcher.workers) if number not in self._slots]
        for number, ticket in zip(free, waiting, strict=False):
            if self._closing:
                return
            self._slots[number] = _Slot(self._launcher.start(self._plan, ticket, number), ticket)
            if self._stops:  # the signal came between
                self._slots[number].worker.terminate()

    def _report_progress(self, study: optuna.Study, state: State, display: Display) -> None:
        """Update the study's run in MLflow; what fails now is made up for when the next trial ends."""
        if self._on_progress is None:
            return
        begin = time.monotonic()
        try:
            self._on_progress(study, state)
        except _MLFLOW_ERRORS as error:
            display.print_line(f"MLflow is not up to date: {compact(error)}")
        self._is_behind = False
        end = time.monotonic()
        self._next_report = end + min(_REPORT_PAUSE * (end - begin), _LONGEST_PAUSE)

    def _reap_workers(self, study: optuna.Study, display: Display) -> None:
        """Take the workers that have ended off the list.

        Raises:
            SettingError: If a worker found a setting that cannot work, or workers die one after the other.
        """
        for number, slot in list(self._slots.items()):
            code = slot.worker.exitcode
            if code is None:
                continue
            del self._slots[number]
            if code in (DONE, STOPPED):
                continue
            log = trial_log(self._plan.name, slot.ticket)
            message = read_message(log) if code == USER_ERROR else None
            if message is not None:
                raise SettingError(message)
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            display.print_line(f"the worker of trial {slot.ticket} ended with {cause}; see {log}")
            latest = trials_by_ticket(study)[slot.ticket][-1]
            self._deaths += latest.state != TrialState.FAIL
            if self._deaths >= _MAX_DEATHS:
                raise SettingError(f"{self._deaths} workers died one after the other, the last with {cause}; see {log}")

    @contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """Stop the workers on Ctrl-C and SIGTERM: they finish the step and write a checkpoint.

        The third request kills them. On leaving the context, workers that still run are stopped.
        """

        def stop(*_: object) -> None:
            self._stops += 1
            for slot in list(self._slots.values()):
                slot.worker.kill() if self._stops > 2 else slot.worker.terminate()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for slot in self._slots.values():
                slot.worker.terminate()
            for slot in self._slots.values():
                slot.worker.join()
            for number, handler in before.items():
                signal.signal(number, handler)
