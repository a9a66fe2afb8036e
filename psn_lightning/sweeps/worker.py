"""A process that runs trials of a study, one after the other, until none waits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path

import optuna
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError, compact
from psn_lightning.sweeps.liveness import beat
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.storages import HEARTBEAT_SECONDS, quieten
from psn_lightning.sweeps.tickets import fail, give_back
from psn_lightning.sweeps.trials import run_trial

REFUSED = 2
"""Exit code: a setting cannot work; which one is told through the queue."""

_LOOK_SECONDS = 2.0  # after so long a worker notices that its supervisor is gone
_AWAY = (OSError, SQLAlchemyError, StorageInternalError)  # of a storage that does not answer


class StopAsked:
    """SIGTERM ends a run, never what is told to Optuna about it.

    During a fit the fit's own handler takes its place, which lets the step finish.
    """

    def __init__(self) -> None:
        self.asked = False
        self._running = False

    def __call__(self, *_: object) -> None:
        """Handle the signal."""
        self.asked = True
        if self._running:
            raise SIGTERMException("the sweep was stopped")

    @contextmanager
    def during_a_run(self) -> Iterator[None]:
        """Where it may interrupt."""
        self._running = True
        try:
            yield
        except SIGTERMException:
            self.asked = True
            raise
        finally:
            self._running = False


@dataclass(frozen=True)
class Orders:
    """What a worker and its supervisor share."""

    stop: Event
    """Set where no further trial is to begin."""
    told: SimpleQueue[str]
    """Takes the message of an error of the user's."""


def work(plan: Plan, n_threads: int, log: Path, orders: Orders) -> None:
    """Run trials; the main function of a worker process.

    Args:
        plan: The study.
        n_threads: Threads of this worker.
        log: File for all that is printed.
        orders: Shared with the supervisor.
    """
    os.setpgrp()  # Ctrl-C is for the command, which asks its workers in turn
    stop = StopAsked()
    signal.signal(signal.SIGTERM, stop)
    _print_to(log)
    torch.set_num_threads(n_threads)
    quieten()
    study, storage = plan.open()
    while not (stop.asked or orders.stop.is_set() or is_orphan()):
        trial = plan.tickets.claim(study, storage, plan.sampler_of)
        if trial is None:
            return
        with Pulse(storage, trial._trial_id), suppress(UpdateFinishedTrialError):  # others thought us dead
            _attempt(study, trial, plan, stop, orders)


def is_orphan() -> bool:
    """Whether the command that started this worker is gone."""
    supervisor = multiprocessing.parent_process()
    return supervisor is not None and os.getppid() != supervisor.pid


def _attempt(study: optuna.Study, trial: optuna.Trial, plan: Plan, stop: StopAsked, orders: Orders) -> None:
    """Run a trial and tell Optuna how it ended."""
    try:
        with stop.during_a_run():
            value = run_trial(trial, plan)
        study.tell(trial, value, skip_if_finished=True)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    except SIGTERMException:
        give_back(study, trial, "the sweep was stopped")
    except UpdateFinishedTrialError:
        raise
    except (ValueError, ArgumentError, MisconfigurationException) as error:
        reason = SettingError.inside(error)
        if reason is None and isinstance(error, ValueError):
            _broke(study, trial, error)
            return
        message = compact(reason or error)
        give_back(study, trial, message)
        orders.told.put(message)
        sys.exit(REFUSED)
    except Exception as error:  # whatever a run can fail of: the others go on
        _broke(study, trial, error)


def _broke(study: optuna.Study, trial: optuna.Trial, error: Exception) -> None:
    traceback.print_exc()
    fail(study, trial, f"{type(error).__name__}: {compact(error)}")


class Pulse:
    """Shows other machines that the worker lives while it is busy, and has it stop when its supervisor is gone.

    Args:
        storage: The study's.
        trial_id: The running trial's.
    """

    def __init__(self, storage: BaseStorage, trial_id: int) -> None:
        self._storage = storage
        self._trial_id = trial_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        due = time.monotonic() + HEARTBEAT_SECONDS
        while not self._over.wait(_LOOK_SECONDS):
            if is_orphan():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if time.monotonic() > due:
                due = time.monotonic() + HEARTBEAT_SECONDS
                with suppress(*_AWAY, UpdateFinishedTrialError):  # the next one may arrive
                    beat(self._storage, self._trial_id)


def _print_to(log: Path) -> None:
    """Send what this process prints to a file, also what libraries print below Python."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
