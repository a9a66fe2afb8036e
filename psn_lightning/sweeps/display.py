"""Progress of a sweep in the terminal: a line per worker, and a bar for all trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.progress import TimeRemainingColumn

from psn_lightning.sweeps.bars import Bars
from psn_lightning.sweeps.liveness import failure_reason
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.space import describe_params
from psn_lightning.sweeps.tickets import TICKET, State
from psn_lightning.sweeps.trials import EPOCHS


class Display(Bars):
    """Progress of a study; a context manager.

    Args:
        plan: Study to show.
        n_workers: Number of workers of this command.
    """

    def __init__(self, plan: Plan, n_workers: int) -> None:
        super().__init__(TimeRemainingColumn())
        self._plan = plan
        self._all = self._progress.add_task(plan.name, total=len(plan.tickets.wanted))
        self._lines = [self._progress.add_task(f"worker {slot + 1}", total=None) for slot in range(n_workers)]
        self._ended: set[int] | None = None  # numbers of the trials that had ended at the last look
        self._said: set[str] = set()

    def show_nothing_left(self, state: State) -> None:
        """Print that all trials were done before."""
        lost = f", {len(state.lost)} of them failed for good" if state.lost else ""
        self._progress.update(self._all, completed=len(state.done))
        for line in self._lines:
            self._progress.update(line, visible=False)
        self.print_line(
            f"{self._plan.name}: all {len(self._plan.tickets.wanted)} trials are done{lost}, nothing is left to do"
        )

    def show(self, state: State, tickets: Mapping[int, int], closing: bool) -> bool:
        """Show the progress of all trials.

        Args:
            state: State of the study.
            tickets: Ticket of each worker of this command, by the worker's number.
            closing: Whether no further trial is started.

        Returns:
            Whether trials have ended since the last call, or before the first one.
        """
        if self._ended is None and state.done:
            self._progress.reset(
                self._all, total=len(self._plan.tickets.wanted), completed=len(state.done)
            )  # earlier trials do not count for the speed
        self._progress.update(self._all, completed=len(state.done))
        running = {trial.user_attrs[TICKET]: trial for trial in state.running}
        for slot, line in enumerate(self._lines):
            self._progress.update(line, **_describe_worker(slot, tickets.get(slot), running))
        if closing and tickets:
            self._print_once("no further trial is started; the running ones come to their end")
        if not tickets and state.running and not state.waiting:
            self._print_once("no trial is left to start; waiting for those of other commands")
        return self._print_ended(state)

    def _print_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.print_line(text)

    def _print_ended(self, state: State) -> bool:
        ended = {trial.number: trial for trial in [*state.done, *state.lost]}
        new = set(ended) - (self._ended if self._ended is not None else set())
        if self._ended is not None:
            for number in sorted(new):
                self.print_line(_describe_end(ended[number], self._plan.objective))
        self._ended = set(ended)
        return bool(new)


def _describe_worker(slot: int, ticket: int | None, running: Mapping[int, FrozenTrial]) -> dict[str, Any]:
    """Line of a worker: its trial, and the epochs of all runs of the trial."""
    if ticket is None:
        return {"description": f"worker {slot + 1}", "total": None}
    trial = running.get(ticket)
    if trial is None:
        return {"description": f"worker {slot + 1}: trial {ticket} is about to start", "total": None}
    last = trial.last_step
    value = "" if last is None else f", {trial.intermediate_values[last]:.4f}"
    return {
        "description": f"worker {slot + 1}: trial {ticket}, {describe_params(trial.params)}{value}",
        "total": trial.user_attrs.get(EPOCHS),
        "completed": 0 if last is None else last + 1,
    }


def _describe_end(trial: FrozenTrial, objective: str) -> str:
    """Line about a trial that has ended."""
    name = f"trial {trial.user_attrs[TICKET]} ({describe_params(trial.params)})"
    if trial.state == TrialState.COMPLETE:
        return f"{name}: {objective} {trial.value:.4f}"
    reason = failure_reason(trial)
    return f"{name}: {reason}" if trial.state == TrialState.PRUNED else f"{name} failed for good: {reason}"
