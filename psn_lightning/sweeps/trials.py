"""A trial: a run of ``psn-train fit`` for each of its seeds."""

from __future__ import annotations

import contextvars
import difflib
import gc
import math
import tempfile
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
import yaml
from mlflow.entities import Run, RunStatus

from psn_lightning.commands.training import PSNCLI
from psn_lightning.errors import DivergedError, SettingError, UnreachableError
from psn_lightning.sweeps.liveness import REASON
from psn_lightning.sweeps.plan import Plan, parent_run
from psn_lightning.sweeps.space import apply_settings, describe_params, suggest_settings
from psn_lightning.sweeps.tickets import TICKET, seed_value, set_seed_value
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.mlflow_private import MLFLOW_PARENT_RUN_ID
from psn_lightning.tracking.model_names import NO_MODEL
from psn_lightning.tracking.store import patiently

EPOCHS = "epochs"
"""User attribute of a trial: number of epochs of all its runs."""

_PATIENCE_SECONDS = 600.0  # that a run waits for MLflow at its start; later it does not wait


def run_trial(trial: optuna.Trial, plan: Plan) -> float:
    """Run a trial, or the part of it that is not done yet.

    Args:
        trial: Claimed trial.
        plan: Study of the trial.

    Returns:
        Mean objective over the seeds.

    Raises:
        TrialPruned: If the pruner ends the trial, its topology is impossible, or its objective is not finite.
        SettingError: If the configuration cannot work.
    """
    settings = suggest_settings(trial, plan.space)
    seeds = plan.seeds_of_a_trial(settings)
    epochs = apply_settings(plan.config, settings)["trainer"]["max_epochs"]
    trial.set_user_attr(EPOCHS, epochs * len(seeds))
    values = []
    for i, seed in enumerate(seeds):
        value = seed_value(trial, seed)
        if value is None:
            run = partial(_run_seed, trial, plan, {**settings, "seed_everything": seed}, i * epochs)
            value = patiently(run, _PATIENCE_SECONDS)
            set_seed_value(trial, seed, value)
            gc.collect()  # the fits of a trial share a process: without it each leaves its data set in memory
        if not math.isfinite(value):
            raise _prune(trial, f"{plan.objective} of seed {seed} is {value}")
        values.append(value)
    return sum(values) / len(values)


def _prune(trial: optuna.Trial, reason: str) -> optuna.TrialPruned:
    """Exception that prunes a trial, once the reason is stored."""
    trial.set_user_attr(REASON, reason)
    return optuna.TrialPruned(reason)


def _run_seed(trial: optuna.Trial, plan: Plan, settings: Mapping[str, Any], epochs_before: int) -> float:
    """Run one fit: a stopped one goes on, and of a finished one the objective is looked up."""
    config = apply_settings(plan.config, {**settings, "tracking": _make_tracking(trial, plan, settings)})
    logger = MLflowLogger(**config["tracking"])
    earlier = logger.newest_fit()
    if earlier is not None and earlier.data.tags.get(MLFLOW_PARENT_RUN_ID) != parent_run(trial.study):
        earlier = None  # of another study that had this name
    finished = earlier is not None and earlier.info.status == RunStatus.to_string(RunStatus.FINISHED)
    if earlier is not None and finished and plan.objective in earlier.data.metrics:
        return earlier.data.metrics[plan.objective]
    reporter = EpochReporter(trial, plan.objective, epochs_before)
    try:
        return _fit(config, reporter, plan, earlier)
    except DivergedError as error:
        raise _prune(trial, f"seed {settings['seed_everything']}: {error}") from error
    except (ValueError, ArgumentError) as error:
        cause = SettingError.inside(error)
        if not isinstance(cause, UnreachableError):
            raise
        reason = f"pruned before training: {cause}"
        logger.kill(reason)
        logger.start()
        logger.finalize()
        raise _prune(trial, reason) from error


def _fit(config: dict[str, Any], reporter: EpochReporter, plan: Plan, earlier: Run | None) -> float:
    arguments = ["--ckpt_path", "last"] if earlier is not None else []
    cli = run_fit(config, arguments, [reporter], plan.sees_test_set)
    logger = cli.trainer.logger
    assert isinstance(logger, MLflowLogger)
    return _get_objective(logger.metrics, plan.objective)


def run_fit(
    config: dict[str, Any],
    arguments: Sequence[str] = (),
    callbacks: Sequence[pl.Callback] = (),
    sees_test_set: bool = False,
) -> PSNCLI:
    """Run ``psn-train fit`` in this process.

    Args:
        config: Complete configuration.
        arguments: Further arguments of the command line.
        callbacks: Callbacks beside those of the configuration.
        sees_test_set: Whether the run is evaluated on the test set at its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command_line = ["fit", "--config", str(path), *arguments]
        context = contextvars.copy_context()  # jsonargparse leaves variables behind that hold network and data
        return context.run(PSNCLI, command_line, callbacks=list(callbacks), sees_test_set=sees_test_set)


def _get_objective(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        nearest = difflib.get_close_matches(name, metrics, 3) or sorted(key for key in metrics if key.startswith("val"))
        hint = "" if nearest or not name.startswith("val") else "; val/… needs data.init_args.val_fraction"
        known = f"the nearest are {', '.join(nearest)}" if nearest else f"there are {', '.join(sorted(metrics))}"
        raise SettingError(f"objective {name}: the runs have no such metric; {known}{hint}")
    return metrics[name]


def _make_tracking(trial: optuna.Trial, plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Tracking settings of a run: nested in the study's run, under a name that no other run has."""
    ticket, seed = trial.user_attrs[TICKET], settings["seed_everything"]
    tags = {
        MLFLOW_PARENT_RUN_ID: parent_run(trial.study),
        "study": plan.family,
        "role": plan.role,
        "trial": str(ticket),
        "cell": describe_params({key: value for key, value in trial.params.items() if key != "seed_everything"}),
    }
    given = plan.config["tracking"]
    name = f"{plan.name.replace('/', '-')}-{ticket:03d}-seed{seed}"
    model = NO_MODEL if plan.role == "trial" else {}  # a trial is asked for a value; the best is trained again
    return {**given, **model, "run_name": name, "tags": {**(given["tags"] or {}), **tags}}


class EpochReporter(pl.Callback):
    """Reports the objective of every epoch to Optuna, and ends the run if the pruner says so.

    Args:
        trial: Trial of the run.
        objective: Name of the metric.
        epochs_before: Number of epochs of the trial's earlier runs, so that steps of different trials compare.
    """

    def __init__(self, trial: optuna.Trial, objective: str, epochs_before: int) -> None:
        self._trial = trial
        self._objective = objective
        self._before = epochs_before
        self._reported = -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch and ask the pruner."""
        value = trainer.callback_metrics.get(self._objective)
        if value is None or trainer.current_epoch == self._reported:
            return  # of several evaluations in an epoch the first one counts
        self._reported = trainer.current_epoch
        self._trial.report(float(value), self._before + trainer.current_epoch)
        if self._trial.should_prune():
            reason = f"pruned after epoch {trainer.current_epoch + 1}: {self._objective} {float(value):.4f}"
            if isinstance(trainer.logger, MLflowLogger):
                trainer.logger.kill(reason)
            raise _prune(self._trial, reason)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Say in MLflow why a run that diverged was ended."""
        if isinstance(exception, DivergedError) and isinstance(trainer.logger, MLflowLogger):
            trainer.logger.kill(str(exception))
