"""What a sweep shows while it runs: a line per worker, and a bar for all trials."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from psn_lightning.sweeps.liveness import REASON, WORKER
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.space import described
from psn_lightning.sweeps.tickets import TICKET, State
from psn_lightning.sweeps.trials import EPOCHS
from psn_lightning.tracking.processes import host


class Display:
    """The progress of a study; use it as a context manager.

    Args:
        plan: The study.
        n_workers: Workers of this command.
    """

    def __init__(self, plan: Plan, n_workers: int) -> None:
        self._plan = plan
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._all = self._progress.add_task(plan.name, total=len(plan.tickets.wanted))
        self._lines = [self._progress.add_task(f"worker {slot + 1}", total=None) for slot in range(n_workers)]
        self._known: set[int] | None = None
        self._waits = False

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def nothing_left(self, state: State) -> None:
        """Say that a study has been run before."""
        lost = f", {len(state.lost)} of them failed for good" if state.lost else ""
        self._progress.update(self._all, completed=len(state.done))
        for line in self._lines:
            self._progress.update(line, visible=False)
        self.say(
            f"{self._plan.name}: all {len(self._plan.tickets.wanted)} trials are done{lost}, nothing is left to do"
        )

    def show(self, state: State, processes: Mapping[int, int | None]) -> bool:
        """Show how far everything is.

        Args:
            state: The study.
            processes: Process id of each worker that is alive, by slot.

        Returns:
            Whether trials have ended since the last look, or this is the first one with any.
        """
        if self._known is None and state.done:
            self._progress.reset(
                self._all, total=len(self._plan.tickets.wanted), completed=len(state.done)
            )  # no speed yet
        self._progress.update(self._all, completed=len(state.done))
        busy = {trial.user_attrs.get(WORKER, {}).get("pid"): trial for trial in _here(state.running)}
        for slot, line in enumerate(self._lines):
            trial = busy.get(processes.get(slot))
            if trial is None:
                self._progress.update(line, description=f"worker {slot + 1}", total=None)
            else:
                self._progress.update(line, **_line(slot, trial))
        if not processes and state.running and not self._waits:
            self._waits = True
            self.say(f"nothing is left to begin; waiting for {len(state.running)} trials on other machines")
        return self._tell_of_ended(state)

    def _tell_of_ended(self, state: State) -> bool:
        ended = {trial.number: trial for trial in [*state.done, *state.lost]}
        new = set(ended) - (self._known if self._known is not None else set())
        if self._known is not None:
            for number in sorted(new):
                self.say(_ending(ended[number], self._plan.objective))
        self._known = set(ended)
        return bool(new)


def _here(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.user_attrs.get(WORKER, {}).get("host") == host()]


def _line(slot: int, trial: FrozenTrial) -> dict[str, Any]:
    """How far a worker's trial is, in epochs of all its runs."""
    last = trial.last_step
    value = "" if last is None else f", {trial.intermediate_values[last]:.4f}"
    text = f"worker {slot + 1}: trial {trial.user_attrs[TICKET]}, {described(trial.params)}{value}"
    return {
        "description": text,
        "total": trial.user_attrs.get(EPOCHS),
        "completed": 0 if last is None else last + 1,
    }


def _ending(trial: FrozenTrial, objective: str) -> str:
    """One line about a trial that is over."""
    name = f"trial {trial.user_attrs[TICKET]} ({described(trial.params)})"
    if trial.state == TrialState.COMPLETE:
        return f"{name}: {objective} {trial.value:.4f}"
    reason = trial.user_attrs.get(REASON, "no reason known")
    return f"{name}: {reason}" if trial.state == TrialState.PRUNED else f"{name} failed for good: {reason}"
