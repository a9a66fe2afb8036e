"""One trial: a run of ``psn-train fit`` for each of its seeds."""

from __future__ import annotations

import contextvars
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
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from psn_lightning.commands.training import PSNCLI
from psn_lightning.errors import DivergedError, SettingError, UnreachableError
from psn_lightning.sweeps.liveness import REASON
from psn_lightning.sweeps.plan import Plan, parent_run
from psn_lightning.sweeps.space import described, suggest, with_settings
from psn_lightning.sweeps.tickets import TICKET, seed_value, set_seed_value
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.store import patiently

EPOCHS = "epochs"
"""User attribute of a trial: how many epochs all its runs have."""

_PATIENCE_SECONDS = 600.0  # for which MLflow may be away where a run begins; within one it may for ever


def run_trial(trial: optuna.Trial, plan: Plan) -> float:
    """Run a trial, or what of it is not done yet.

    Returns:
        Mean objective over the seeds.

    Raises:
        TrialPruned: If the pruner ends it, its topology cannot be, or its objective is not finite.
        SettingError: If the configuration is wrong.
    """
    settings = suggest(trial, plan.space)
    seeds = plan.seeds_of_a_trial(settings)
    epochs = with_settings(plan.config, settings)["trainer"]["max_epochs"]
    trial.set_user_attr(EPOCHS, epochs * len(seeds))
    values = []
    for i, seed in enumerate(seeds):
        value = seed_value(trial, seed)
        if value is None:
            own = {**settings, "seed_everything": seed}
            value = patiently(partial(_run, trial, plan, own, i * epochs), _PATIENCE_SECONDS)
            set_seed_value(trial, seed, value)
            gc.collect()  # the Trainer is full of cycles; a data set each would fill the memory first
        if not math.isfinite(value):
            why = f"{plan.objective} of seed {seed} is {value}"
            trial.set_user_attr(REASON, why)
            raise optuna.TrialPruned(why)
        values.append(value)
    return sum(values) / len(values)


def _run(trial: optuna.Trial, plan: Plan, settings: Mapping[str, Any], epochs_before: int) -> float:
    """One fit; one that was begun goes on, and one that is done is only looked up."""
    config = with_settings(plan.config, {**settings, "tracking": _tracking(trial, plan, settings)})
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
        why = f"seed {settings['seed_everything']}: {error}"
        trial.set_user_attr(REASON, why)
        raise optuna.TrialPruned(why) from error
    except (ValueError, ArgumentError) as error:
        reason = SettingError.inside(error)
        if not isinstance(reason, UnreachableError):
            raise
        why = f"pruned before training: {reason}"
        trial.set_user_attr(REASON, why)
        logger.kill(why)
        logger.start()
        logger.finalize()
        raise optuna.TrialPruned(why) from error


def _fit(config: dict[str, Any], reporter: EpochReporter, plan: Plan, earlier: Run | None) -> float:
    goes_on = ["--ckpt_path", "last"] if earlier is not None else []
    cli = fitted(config, goes_on, [reporter], plan.sees_test_set)
    logger = cli.trainer.logger
    assert isinstance(logger, MLflowLogger)
    return _objective(logger.metrics, plan.objective)


def fitted(
    config: dict[str, Any],
    arguments: Sequence[str] = (),
    callbacks: Sequence[pl.Callback] = (),
    sees_test_set: bool = False,
) -> PSNCLI:
    """Run ``psn-train fit`` in this process.

    Args:
        config: Complete configuration.
        arguments: More of the command line.
        callbacks: Beside those of the configuration.
        sees_test_set: Whether the run is evaluated on the test set at its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        # In a context of its own: the parser leaves context variables behind that hold network and data for ever.
        context = contextvars.copy_context()
        every = ["fit", "--config", str(path), *arguments]
        return context.run(PSNCLI, every, callbacks=list(callbacks), sees_test_set=sees_test_set)


def _objective(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        known = ", ".join(sorted(key for key in metrics if "/" in key))
        raise SettingError(
            f"objective {name}: the runs have no such metric, only {known}; val/… needs data.init_args.val_fraction"
        )
    return metrics[name]


def _tracking(trial: optuna.Trial, plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where a run is recorded: nested in the study's, under a name that no other run has."""
    ticket, seed = trial.user_attrs[TICKET], settings["seed_everything"]
    tags = {
        MLFLOW_PARENT_RUN_ID: parent_run(trial.study),
        "study": plan.family,
        "role": plan.role,
        "trial": str(ticket),
        "cell": described({key: value for key, value in trial.params.items() if key != "seed_everything"}),
    }
    given = plan.config["tracking"]
    name = f"{plan.name.replace('/', '-')}-{ticket:03d}-seed{seed}"
    return {**given, "run_name": name, "tags": {**(given["tags"] or {}), **tags}}


class EpochReporter(pl.Callback):
    """Tells Optuna the objective after every epoch, and ends the run where its pruner wants that.

    Args:
        trial: Optuna's.
        objective: Name of the metric.
        epochs_before: Epochs of the trial's earlier runs: like is compared with like.
    """

    def __init__(self, trial: optuna.Trial, objective: str, epochs_before: int) -> None:
        self._trial = trial
        self._objective = objective
        self._before = epochs_before

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and ask."""
        value = trainer.callback_metrics.get(self._objective)
        if value is None:
            return
        step = self._before + trainer.current_epoch
        self._trial.report(float(value), step)
        if self._trial.should_prune():
            reason = f"pruned after epoch {trainer.current_epoch + 1}: {self._objective} {float(value):.4f}"
            self._trial.set_user_attr(REASON, reason)
            if isinstance(trainer.logger, MLflowLogger):
                trainer.logger.kill(reason)
            raise optuna.TrialPruned(reason)
