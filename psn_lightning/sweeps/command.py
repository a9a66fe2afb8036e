"""``psn-train sweep``: a study of many runs, on any number of workers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

from psn_lightning.commands.summary import ui_command
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.base_config import configuration
from psn_lightning.sweeps.dashboard import serve_dashboard
from psn_lightning.sweeps.launchers import Launcher, make_launcher
from psn_lightning.sweeps.liveness import failure_reason
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.plan import Plan, best_trial
from psn_lightning.sweeps.space import apply_settings, combinations, decode_settings, describe_params
from psn_lightning.sweeps.storages import FOLDER, open_storage, refuse_shared, silence_optuna, storage_url
from psn_lightning.sweeps.supervisor import Stopped, Supervisor
from psn_lightning.sweeps.sweep import DASHBOARD, Space, Sweep, parse
from psn_lightning.sweeps.tickets import TICKET, State, Tickets, seed_values, trial_value
from psn_lightning.tracking.outbox import OUTBOXES, find_outboxes
from psn_lightning.tracking.store import Store

_SHOWN = 10  # trials in the table at the end


def run(arguments: Sequence[str]) -> None:
    """Run a sweep to its end, or go on with it.

    Args:
        arguments: Command line after ``psn-train sweep``.

    Raises:
        SettingError: If a setting cannot work, or trials failed for good.
        SIGTERMException: If the sweep was stopped.
    """
    silence_optuna()
    sweep, text = parse(arguments)
    launcher = make_launcher(sweep)
    config = configuration(sweep)
    refuse_shared(storage_url(sweep.storage, sweep.name), Store(config["tracking"]["uri"]).uri)
    plan = plan_of(sweep, config)
    with ExitStack() as beside, StudyRun(plan, text) as parent:
        if DASHBOARD in arguments:
            open_storage(sweep.storage, sweep.name)  # makes the tables, which the dashboard would make at the same time
            beside.enter_context(serve_dashboard(storage_url(sweep.storage, sweep.name)))
        try:
            state = Supervisor(plan, launcher, parent.refresh).run()
            retrained = _retrain(sweep, plan, state, parent, launcher)
        except Stopped as stopped:
            raise SIGTERMException(f"stopped; the same command goes on with {stopped}") from None
        parent.mark_lost(plan, state)
    _print_results(sweep, plan, state, retrained)


def plan_of(sweep: Sweep, config: dict[str, Any]) -> Plan:
    """Plan of a sweep's study.

    Args:
        sweep: Sweep to run.
        config: Complete configuration of the sweep's runs.
    """
    cells = combinations(sweep.space) if sweep.sampler == "grid" else None
    n = len(cells) if cells is not None else sweep.trials or 0
    return Plan(
        name=sweep.name,
        storage=sweep.storage,
        config=config,
        space=sweep.space,
        tickets=Tickets(n, cells, sweep.retries),
        sampler=sweep.sampler,
        pruner=sweep.pruner,
        seeds=sweep.seeds,
        objective=sweep.objective,
        direction=sweep.direction,
    )


def _retrain(sweep: Sweep, plan: Plan, state: State, parent: StudyRun, launcher: Launcher) -> State | None:
    """Train the best trial's settings again with the seeds kept for that, and evaluate on the test set.

    The runs are a study of their own, with one trial per seed.
    """
    if not sweep.retrain_seeds or not state.complete:
        return None
    best = best_trial(state, plan)
    seeds: list[Any] = list(sweep.retrain_seeds)
    space: Space = {"seed_everything": seeds}
    again = replace(
        plan,
        name=f"{plan.name}/best{best.user_attrs[TICKET]}",
        config=apply_settings(plan.config, decode_settings(best.params, plan.space)),
        space=space,
        tickets=Tickets(len(seeds), combinations(space), sweep.retries),
        sampler="grid",
        pruner=None,
        seeds=None,
        objective=f"test/{plan.objective.split('/')[-1]}",
        sees_test_set=True,
        role="retrained",
    )
    parent.adopt(again)
    retrained = Supervisor(again, launcher).run()
    parent.mark_lost(again, retrained)
    return retrained


def _print_results(sweep: Sweep, plan: Plan, state: State, retrained: State | None) -> None:
    """Print the best trials, and what failed.

    Raises:
        SettingError: If trials failed for good.
    """
    console = Console()
    if state.complete:
        best = best_trial(state, plan)
        console.print(f"Study {plan.name}: {_count_trials(state)}", highlight=False)
        table = Table("", plan.objective, "settings")
        ranked = sorted(state.complete, key=trial_value, reverse=plan.direction == "maximize")
        for place, trial in enumerate(ranked[:_SHOWN], start=1):
            table.add_row(str(place), _format_mean(trial), describe_params(trial.params))
        console.print(table)
        if retrained is not None and retrained.complete:
            values = [trial_value(trial) for trial in retrained.complete]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            console.print(
                f"Trained again ({describe_params(best.params)}), {len(values)} new seeds: "
                f"test {plan.objective.split('/')[-1]} {statistics.fmean(values):.4f}{spread}",
                highlight=False,
                soft_wrap=True,
            )
    store = Store(plan.config["tracking"]["uri"])
    if find_outboxes(store.home):
        outboxes = store.home / OUTBOXES
        console.print(f"Some runs are not in MLflow yet, but in {outboxes}; when MLflow is back: psn-train sync")
    console.print(f"Compare with: {ui_command(store.shown)}", highlight=False, soft_wrap=True)
    lost = [*state.lost, *(retrained.lost if retrained else [])]
    if lost:
        raise SettingError(
            f"{len(lost)} trials failed more than {sweep.retries} times, the last one because: "
            f"{failure_reason(lost[-1])}. Their logs are in {FOLDER / plan.name}; with a larger --retries the same "
            "command tries them again"
        )


def _count_trials(state: State) -> str:
    pruned = len(state.done) - len(state.complete)
    return f"{len(state.complete)} complete, {pruned} pruned, {len(state.lost)} failed"


def _format_mean(trial: FrozenTrial) -> str:
    """Objective of a trial, with its standard deviation over the seeds."""
    values = seed_values(trial)
    spread = f" ± {statistics.stdev(values):.4f} (n={len(values)})" if len(values) > 1 else ""
    return f"{trial.value:.4f}{spread}"
