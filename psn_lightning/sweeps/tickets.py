"""The trials of a study, each of which is run to its end once, whoever dies meanwhile.

A study has a fixed number of *tickets*. Each has an Optuna trial that waits, runs or is done; where that failed, a new
one with the same values waits in its place. Claiming one is Optuna's atomic change from WAITING to RUNNING.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from psn_lightning.sweeps.liveness import REASON, WORKER, beat
from psn_lightning.sweeps.space import Scalar
from psn_lightning.tracking.processes import identity

TICKET = "ticket"
"""User attribute of a trial: which ticket it is for."""

_NO_FAULT = "given_back"  # user attribute of a failed trial that does not count as a death
_RESULT = "seed_"  # user attributes of a trial: the objective of each seed's run
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_OPEN = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Tickets:
    """How many trials a study has, and what is prescribed to them.

    Args:
        n: Their number.
        cells: Optuna's parameters of each; None: the sampler draws them.
        retries: How often a trial is tried again that died.
        left_out: Tickets that are not wanted now.
    """

    n: int
    cells: Sequence[dict[str, Scalar]] | None
    retries: int
    left_out: frozenset[int] = frozenset()

    @property
    def wanted(self) -> list[int]:
        """Numbers of the tickets."""
        return [ticket for ticket in range(self.n) if ticket not in self.left_out]

    def fill(self, study: optuna.Study) -> None:
        """Have a trial wait for every ticket that has none and may have one."""
        trials = by_ticket(study)
        for ticket in self.wanted:
            mine = trials[ticket]
            if _is_provided_for(mine) or self._is_lost(mine):
                continue
            params = self.cells[ticket] if self.cells is not None else {}
            kept: dict[str, Any] = {}
            for trial in mine:  # oldest first: what was drawn and what was measured goes on
                params = trial.params or params
                kept |= {key: value for key, value in trial.user_attrs.items() if key.startswith(_RESULT)}
            study.enqueue_trial(params, user_attrs={**kept, TICKET: ticket})

    def claim(
        self, study: optuna.Study, storage: BaseStorage, sampler: Callable[[int], BaseSampler]
    ) -> optuna.Trial | None:
        """Take the first trial that waits; None if there is none.

        Args:
            study: The study.
            storage: Its storage.
            sampler: Makes the sampler of a ticket.
        """
        for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            ticket = waiting.user_attrs[TICKET]
            if ticket not in self.wanted or not _begin(storage, waiting):
                continue
            study.sampler = sampler(ticket)
            trial = optuna.Trial(study, waiting._trial_id)
            if _is_provided_for([t for t in by_ticket(study)[ticket] if t.number < trial.number]):
                give_back(study, trial, "another trial has this ticket")  # two filled the study at the same moment
                continue
            return trial
        return None

    def state(self, study: optuna.Study) -> State:
        """How far the study is."""
        trials = by_ticket(study)
        latest = [_latest(trials[ticket]) for ticket in self.wanted]
        done = [trial for trial in latest if trial and trial.state in _DONE]
        running = [trial for trial in latest if trial and trial.state == TrialState.RUNNING]
        lost = [mine[-1] for ticket in self.wanted if self._is_lost(mine := trials[ticket])]
        return State(done, running, len(latest) - len(done) - len(running) - len(lost), lost)

    def _is_lost(self, trials: Sequence[FrozenTrial]) -> bool:
        return deaths(trials) > self.retries and not _is_provided_for(trials)


@dataclass(frozen=True)
class State:
    """The trials of a study, one for each ticket."""

    done: list[FrozenTrial]
    """Complete or pruned."""
    running: list[FrozenTrial]
    waiting: int
    """How many wait, or will be tried again."""
    lost: list[FrozenTrial]
    """Failed, and not tried again."""

    @property
    def complete(self) -> list[FrozenTrial]:
        """Those with a result."""
        return [trial for trial in self.done if trial.state == TrialState.COMPLETE]

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return not self.running and not self.waiting


def by_ticket(study: optuna.Study) -> defaultdict[int, list[FrozenTrial]]:
    """The trials of each ticket, oldest first."""
    trials = defaultdict(list)
    for trial in study.get_trials(deepcopy=False):
        if TICKET in trial.user_attrs:
            trials[trial.user_attrs[TICKET]].append(trial)
    return trials


def value_of(trial: FrozenTrial) -> float:
    """The result of a complete trial."""
    assert trial.value is not None
    return trial.value


def _is_provided_for(trials: Sequence[FrozenTrial]) -> bool:
    """Whether one of a ticket's trials is done, or will be."""
    return any(trial.state in (*_DONE, *_OPEN) for trial in trials)


def deaths(trials: Sequence[FrozenTrial]) -> int:
    """How many of them failed by a fault."""
    return sum(trial.state == TrialState.FAIL and _NO_FAULT not in trial.user_attrs for trial in trials)


def _latest(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The one that counts: done, else open, else the last that failed."""
    ranked = sorted(trials, key=lambda t: (t.state in _DONE, t.state in _OPEN, t.number))
    return ranked[-1] if ranked else None


def _begin(storage: BaseStorage, waiting: FrozenTrial) -> bool:
    """Whether a trial that waited is ours."""
    try:
        if not storage.set_trial_state_values(waiting._trial_id, state=TrialState.RUNNING):
            return False  # another worker was first
    except optuna.exceptions.UpdateFinishedTrialError:
        return False
    beat(storage, waiting._trial_id)
    storage.set_trial_user_attr(waiting._trial_id, WORKER, identity())
    return True


def seed_value(trial: optuna.Trial, seed: int) -> float | None:
    """Objective of one run of a trial; None if it has none yet."""
    return trial.user_attrs.get(f"{_RESULT}{seed}")


def set_seed_value(trial: optuna.Trial, seed: int, value: float) -> None:
    """See :func:`seed_value`."""
    trial.set_user_attr(f"{_RESULT}{seed}", value)


def seed_values(trial: FrozenTrial) -> list[float]:
    """Objective of each run of a trial."""
    return [value for key, value in trial.user_attrs.items() if key.startswith(_RESULT)]


def give_back(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """End a trial without a result and without fault; its ticket is open again."""
    trial.set_user_attr(_NO_FAULT, True)
    fail(study, trial, reason)


def fail(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """End a trial by a fault."""
    trial.set_user_attr(REASON, reason)
    study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
