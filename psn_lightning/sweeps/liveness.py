"""Whether the workers of a study are alive: of this machine by process, of others by their heartbeat."""

from __future__ import annotations

import time
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from psn_lightning.sweeps.storages import SILENT_SECONDS
from psn_lightning.tracking.processes import host, is_dead

WORKER, REASON = "worker", "reason"
"""User attributes of a trial: the process that runs it, and why it ended early."""

_BEATS = "beats"  # user attribute of a trial in a journal, which has no heartbeats of its own


def beat(storage: BaseStorage, trial_id: int) -> None:
    """Show other machines that a trial's worker lives."""
    if isinstance(storage, RDBStorage):
        storage.record_heartbeat(trial_id)
    else:
        beats = storage.get_trial(trial_id).user_attrs.get(_BEATS, 0)
        storage.set_trial_user_attr(trial_id, _BEATS, beats + 1)


class Watch:
    """Fails the trials of a study whose workers are dead.

    Args:
        study: The study.
        storage: Its storage.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        self._study = study
        self._storage = storage
        self._last: dict[int, tuple[Any, float]] = {}

    def bury(self) -> list[FrozenTrial]:
        """Fail them.

        Returns:
            Those that were found here; a database's stale ones are failed by Optuna.
        """
        fail_stale_trials(self._study)
        dead = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            if worker and worker["host"] == host():
                reason = f"its worker, process {worker['pid']}, died" if is_dead(worker) else None
            else:
                reason = f"its worker said nothing for {SILENT_SECONDS} seconds" if self._is_silent(trial) else None
            if reason is None:
                continue
            try:
                self._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            except optuna.exceptions.UpdateFinishedTrialError:
                continue  # another command has found it, too
            self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            dead.append(trial)
        return dead

    def _is_silent(self, trial: FrozenTrial) -> bool:
        """Whether a trial of another machine shows no life; judged by our clock alone."""
        if isinstance(self._storage, RDBStorage) and WORKER in trial.user_attrs:
            return False  # it has a heartbeat: Optuna's own
        life = (trial.user_attrs.get(WORKER), trial.user_attrs.get(_BEATS))
        known, since = self._last.get(trial.number, (None, 0.0))
        if life != known or trial.number not in self._last:
            self._last[trial.number] = (life, time.monotonic())
            return False
        return time.monotonic() - since > SILENT_SECONDS
