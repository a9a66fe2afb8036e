"""Trials of a study, each of which runs to its end once, whichever worker dies meanwhile.

A study has a fixed number of *tickets*. Each has an Optuna trial that waits, runs or is done; if that trial failed, a
new one with the same values waits in its place. A ticket is claimed by Optuna's atomic change from WAITING to RUNNING.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from psn_lightning.sweeps.liveness import REASON, WORKER
from psn_lightning.sweeps.space import Scalar
from psn_lightning.tracking.processes import identity

TICKET = "ticket"
"""User attribute of a trial: number of its ticket."""

_REQUEUED = "requeued"  # user attribute of a failed trial that is not counted as a death
_DUPLICATE = "the ticket has another trial"  # reason why a trial of two commands that filled a study at once ended
_RESULT = "seed_"  # prefix of user attributes of a trial: objective of the run of a seed
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_OPEN = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Tickets:
    """Number of the trials of a study, and what is prescribed to them.

    Args:
        n: Number of tickets.
        cells: Optuna's parameters of each ticket; None if the sampler draws them.
        retries: Number of times that a trial which died is tried again.
        left_out: Tickets that are not wanted now.
    """

    n: int
    cells: Sequence[dict[str, Scalar]] | None
    retries: int
    left_out: frozenset[int] = frozenset()

    @property
    def wanted(self) -> list[int]:
        """Numbers of the tickets that are wanted now."""
        return [ticket for ticket in range(self.n) if ticket not in self.left_out]

    def fill(self, study: optuna.Study) -> None:
        """Enqueue a trial for every ticket that has none and may have one."""
        trials = trials_by_ticket(study)
        for ticket in self.wanted:
            own = trials[ticket]
            if _is_provided_for(own) or self._is_lost(own):
                continue
            params = self.cells[ticket] if self.cells is not None else {}
            kept: dict[str, Any] = {}
            for trial in own:  # oldest first: drawn values and measured results are kept
                params = {**params, **trial.params}  # one that died while it drew has some of them only
                kept |= {key: value for key, value in trial.user_attrs.items() if key.startswith(_RESULT)}
            study.enqueue_trial(params, user_attrs={**kept, TICKET: ticket})

    def take_back_duplicates(self, study: optuna.Study, storage: RDBStorage) -> None:
        """End every trial that waits while its ticket has an older one: two commands filled the study at once.

        Called after each ``fill``, it leaves none: of two commands the later one sees the trials of both.
        """
        for own in trials_by_ticket(study).values():
            for number, trial in enumerate(own):
                if trial.state == TrialState.WAITING and _is_provided_for(own[:number]) and _start(storage, trial):
                    requeue(study, optuna.Trial(study, trial._trial_id), _DUPLICATE)

    def claim(self, study: optuna.Study, storage: RDBStorage, sampler: BaseSampler, ticket: int) -> optuna.Trial | None:
        """Claim the waiting trial of a ticket.

        Args:
            study: Study of the ticket.
            storage: Storage of the study.
            sampler: Sampler of the ticket.
            ticket: Number of the ticket.

        Returns:
            Running trial; None if no trial of the ticket waits.
        """
        for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if waiting.user_attrs.get(TICKET) != ticket or not _start(storage, waiting):
                continue
            study.sampler = sampler
            trial = optuna.Trial(study, waiting._trial_id)
            if _is_provided_for([t for t in trials_by_ticket(study)[ticket] if t.number < trial.number]):
                requeue(study, trial, _DUPLICATE)
                continue
            return trial
        return None

    def state(self, study: optuna.Study) -> State:
        """Progress of a study."""
        trials = trials_by_ticket(study)
        decisive = {ticket: _decisive(trials[ticket]) for ticket in self.wanted}
        done = [trial for trial in decisive.values() if trial and trial.state in _DONE]
        running = [trial for trial in decisive.values() if trial and trial.state == TrialState.RUNNING]
        lost = [own[-1] for ticket in self.wanted if self._is_lost(own := trials[ticket])]
        others = {trial.user_attrs[TICKET] for trial in (*done, *running, *lost)}
        return State(done, running, [ticket for ticket in self.wanted if ticket not in others], lost)

    def _is_lost(self, trials: Sequence[FrozenTrial]) -> bool:
        return count_deaths(trials) > self.retries and not _is_provided_for(trials)


@dataclass(frozen=True)
class State:
    """Trials of a study, one for each ticket."""

    done: list[FrozenTrial]
    """Complete or pruned trials."""
    running: list[FrozenTrial]
    waiting: list[int]
    """Tickets whose trial waits, or will be tried again."""
    lost: list[FrozenTrial]
    """Failed trials that are not tried again."""

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials with a result."""
        return [trial for trial in self.done if trial.state == TrialState.COMPLETE]

    @property
    def n_left(self) -> int:
        """Number of trials that run or wait."""
        return len(self.running) + len(self.waiting)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.n_left == 0


def trials_by_ticket(study: optuna.Study) -> defaultdict[int, list[FrozenTrial]]:
    """Trials of each ticket, oldest first."""
    trials = defaultdict(list)
    for trial in study.get_trials(deepcopy=False):
        if TICKET in trial.user_attrs:
            trials[trial.user_attrs[TICKET]].append(trial)
    return trials


def trial_value(trial: FrozenTrial) -> float:
    """Result of a complete trial."""
    assert trial.value is not None
    return trial.value


def _is_provided_for(trials: Sequence[FrozenTrial]) -> bool:
    """Whether one of a ticket's trials is done, runs or waits."""
    return any(trial.state in (*_DONE, *_OPEN) for trial in trials)


def count_deaths(trials: Sequence[FrozenTrial]) -> int:
    """Number of trials that failed and were not merely requeued."""
    return sum(trial.state == TrialState.FAIL and _REQUEUED not in trial.user_attrs for trial in trials)


def _decisive(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Trial that a ticket stands for: the one that is done, else the one that is open, else the last that failed."""
    return max(trials, key=lambda t: (t.state in _DONE, t.state in _OPEN, t.number), default=None)


def _start(storage: RDBStorage, waiting: FrozenTrial) -> bool:
    """Change a trial from WAITING to RUNNING.

    The heartbeat comes first: a worker that is killed right after the change leaves a trial that is found dead.

    Returns:
        Whether this process made the change.
    """
    trial_id = waiting._trial_id
    storage.record_heartbeat(trial_id)
    try:
        if not storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
            return False  # another worker was first
    except optuna.exceptions.UpdateFinishedTrialError:
        return False
    storage.set_trial_user_attr(trial_id, WORKER, identity())
    return True


def seed_value(trial: optuna.Trial, seed: int) -> float | None:
    """Objective of the run of a seed; None if the run is not done."""
    return trial.user_attrs.get(f"{_RESULT}{seed}")


def set_seed_value(trial: optuna.Trial, seed: int, value: float) -> None:
    """Store the objective of the run of a seed."""
    trial.set_user_attr(f"{_RESULT}{seed}", value)


def seed_values(trial: FrozenTrial) -> list[float]:
    """Objective of each run of a trial."""
    return [value for key, value in trial.user_attrs.items() if key.startswith(_RESULT)]


def requeue(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """End a trial without a result and without counting a death; its ticket is free again."""
    trial.set_user_attr(_REQUEUED, True)
    fail_trial(study, trial, reason)


def fail_trial(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """End a trial and count a death."""
    trial.set_user_attr(REASON, reason)
    study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
