"""Whether the workers of running trials are alive: on this machine by process, on others by heartbeat."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import wait

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from psn_lightning.sweeps.storages import GRACE_SECONDS, HEARTBEAT_SECONDS, STORAGE_ERRORS
from psn_lightning.tracking.processes import host, is_dead

WORKER, REASON = "worker", "reason"
"""User attributes of a trial: process that runs it, and why it ended early."""


def start_heartbeat(storage: RDBStorage, trial_id: int) -> None:
    """Start a thread that shows that a trial runs, and that stops this process when its supervisor has ended.

    The thread runs as long as the process, which has one trial. A job on a cluster has no supervisor to watch: it goes
    on to its end.

    Args:
        storage: Storage of the study.
        trial_id: Optuna's id of the trial.
    """
    threading.Thread(target=_send_heartbeats, args=(storage, trial_id), daemon=True).start()


def _send_heartbeats(storage: RDBStorage, trial_id: int) -> None:
    supervisor = multiprocessing.parent_process()
    sentinels = [] if supervisor is None else [supervisor.sentinel]
    while not wait(sentinels, HEARTBEAT_SECONDS):
        with suppress(*STORAGE_ERRORS):  # the next one may arrive
            storage.record_heartbeat(trial_id)
    os.kill(os.getpid(), signal.SIGTERM)


def fail_dead_trials(study: optuna.Study, storage: RDBStorage) -> list[FrozenTrial]:
    """Fail the running trials whose workers are dead.

    A living worker of this machine counts as one that has just sent a heartbeat: the machine may have been asleep.

    Args:
        study: Study to look at.
        storage: Storage of the study.

    Returns:
        Trials whose worker was a process of this machine; those without a heartbeat are failed by Optuna.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER)
        if worker is not None and worker["host"] == host() and not is_dead(worker):
            with suppress(*STORAGE_ERRORS):
                storage.record_heartbeat(trial._trial_id)
    fail_stale_trials(study)
    dead = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER)
        if worker is None or not is_dead(worker):
            continue
        with suppress(UpdateFinishedTrialError):  # another command was first
            storage.set_trial_user_attr(trial._trial_id, REASON, f"its worker, process {worker['pid']}, died")
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            dead.append(trial)
    return dead


def failure_reason(trial: FrozenTrial) -> str:
    """Why a trial ended early."""
    reason: str = trial.user_attrs.get(REASON, f"its worker sent no heartbeat for {GRACE_SECONDS} seconds")
    return reason
