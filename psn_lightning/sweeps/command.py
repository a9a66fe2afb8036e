"""``psn-train sweep``: a study of many runs, on any number of processes and machines."""

from __future__ import annotations

import contextlib
import io
import logging
import statistics
import tempfile
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

from psn_lightning.commands.summary import ui_command
from psn_lightning.commands.training import PSNCLI
from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.sweeps.liveness import REASON
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.plan import Plan, best_of
from psn_lightning.sweeps.space import combinations, described, settings_of, with_settings
from psn_lightning.sweeps.storages import FOLDER, quieten, refuse_shared
from psn_lightning.sweeps.supervisor import Stopped, Supervisor
from psn_lightning.sweeps.sweep import Range, Space, Sweep, parse
from psn_lightning.sweeps.tickets import TICKET, State, Tickets, seed_values, value_of
from psn_lightning.tracking.spool import spools
from psn_lightning.tracking.store import Store

_SHOWN = 10  # trials in the table at the end


def run(arguments: Sequence[str]) -> None:
    """Run a sweep to its end, or go on with it.

    Raises:
        SettingError: If a setting cannot work, or trials failed for good.
        SIGTERMException: If it was stopped.
    """
    quieten()
    sweep, text = parse(arguments)
    config = configuration(sweep)
    refuse_shared(sweep.storage, Store(config["tracking"]["uri"]).uri)
    plan = plan_of(sweep, config)
    with StudyRun(plan, text) as parent:
        try:
            state = Supervisor(plan, sweep.workers, parent.refresh).run()
            retrained = _retrain(sweep, plan, state, parent)
        except Stopped as stopped:
            raise SIGTERMException(f"stopped; the same command goes on with {stopped}") from None
        parent.close_lost(plan, state)
    _sum_up(sweep, plan, state, retrained)


def plan_of(sweep: Sweep, config: dict[str, Any]) -> Plan:
    """The study of a sweep.

    Args:
        sweep: The sweep.
        config: Its :func:`configuration`.
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


def _retrain(sweep: Sweep, plan: Plan, state: State, parent: StudyRun) -> State | None:
    """Train the best trial's settings again, with the seeds that are kept for it, and look at the test set.

    It is a study of its own: one trial per seed, run, counted and taken up again as all others are.
    """
    if not sweep.retrain_seeds or not state.complete:
        return None
    best = best_of(state, plan)
    seeds: list[Any] = list(sweep.retrain_seeds)
    space: Space = {"seed_everything": seeds}
    again = replace(
        plan,
        name=f"{plan.name}/best{best.user_attrs[TICKET]}",
        config=with_settings(plan.config, settings_of(best.params, plan.space)),
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
    retrained = Supervisor(again, sweep.workers).run()
    parent.close_lost(again, retrained)
    return retrained


def _sum_up(sweep: Sweep, plan: Plan, state: State, retrained: State | None) -> None:
    """Print what came out.

    Raises:
        SettingError: If trials failed for good.
    """
    console = Console()
    if state.complete:
        best = best_of(state, plan)
        console.print(f"Study {plan.name}: {_counted(state)}", highlight=False)
        table = Table("", plan.objective, "settings")
        ranked = sorted(state.complete, key=value_of, reverse=plan.direction == "maximize")
        for place, trial in enumerate(ranked[:_SHOWN], start=1):
            table.add_row(str(place), _mean(trial), described(trial.params))
        console.print(table)
        if retrained is not None and retrained.complete:
            values = [value_of(trial) for trial in retrained.complete]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            console.print(
                f"Trained again ({described(best.params)}), {len(values)} new seeds: "
                f"test {plan.objective.split('/')[-1]} {statistics.fmean(values):.4f}{spread}",
                highlight=False,
                soft_wrap=True,
            )
    store = Store(plan.config["tracking"]["uri"])
    if spools(store.home):
        console.print(f"Not all of it is in MLflow yet, but in {store.home / 'spool'}; when it is back: psn-train sync")
    console.print(f"Compare with: {ui_command(store.shown)}", highlight=False, soft_wrap=True)
    lost = [*state.lost, *(retrained.lost if retrained else [])]
    if lost:
        reason = lost[-1].user_attrs.get(REASON, "no reason known")
        raise SettingError(
            f"{len(lost)} trials failed more than {sweep.retries} times, the last one because: {reason}. "
            f"What their workers printed is in {FOLDER}; with a larger --retries the same command tries them again"
        )


def _counted(state: State) -> str:
    pruned = len(state.done) - len(state.complete)
    return f"{len(state.complete)} complete, {pruned} pruned, {len(state.lost)} failed"


def _mean(trial: FrozenTrial) -> str:
    """Objective with its standard deviation over the seeds."""
    values = seed_values(trial)
    spread = f" ± {statistics.stdev(values):.4f} (n={len(values)})" if len(values) > 1 else ""
    return f"{trial.value:.4f}{spread}"


def configuration(sweep: Sweep) -> dict[str, Any]:
    """The complete configuration that every run of a sweep starts from.

    Raises:
        SettingError: If a setting of the sweep is none of the configuration's or has a value that cannot be, or a run
            would not be one of many.
    """
    given = [part for path in sweep.base for part in ("--config", str(path.absolute))]
    config = with_settings(_resolved(given), sweep.settings)
    values = {key: [v.low, v.high] if isinstance(v, Range) else list(v) for key, v in sweep.space.items()}
    with tempfile.TemporaryDirectory() as folder:  # what is wrong is found before any worker starts
        path = Path(folder) / "config.yaml"
        for i in range(max(map(len, values.values()))):  # every value once, with others that trials may have beside it
            chosen = {key: listed[min(i, len(listed) - 1)] for key, listed in values.items()}
            path.write_text(yaml.safe_dump(with_settings(config, settings_of(chosen, sweep.space))))
            _check(_resolved(["--config", str(path)]))
            _build(path)
        path.write_text(yaml.safe_dump(with_settings(config, {"trainer.devices": 1})))
        return _resolved(["--config", str(path)])


def _check(config: dict[str, Any]) -> None:
    """Refuse what can be no run of a sweep."""
    epochs, devices, seed = config["trainer"]["max_epochs"], config["trainer"]["devices"], config["seed_everything"]
    if devices not in (1, "1", "auto"):  # the Trainer would start the whole sweep again on each
        raise SettingError(f"trainer.devices {devices}: a run of a sweep has one; --workers shares out the others")
    if not isinstance(epochs, int) or epochs < 1:
        raise SettingError(
            f"trainer.max_epochs {epochs}: trials are reported and pruned by epoch; settings of the sweep must give it"
        )
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise SettingError(f"seed_everything {seed} must be an integer from 0 to {2**32 - 1}")


def _build(path: Path) -> None:
    """Make all that a run of a configuration is made of, but for the data: what cannot be is refused here.

    A topology out of reach is not: it ends its own trial alone.
    """
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PSNCLI(["--config", str(path)], run=False)
    except (ValueError, ArgumentError) as error:
        if not isinstance(SettingError.inside(error), UnreachableError):
            raise
    finally:
        logging.disable(logging.NOTSET)


def _resolved(arguments: Sequence[str]) -> dict[str, Any]:
    """What ``psn-train fit … --print_config`` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        PSNCLI(["fit", *arguments, "--print_config"])
    config: dict[str, Any] = yaml.safe_load(printed.getvalue())
    return config
