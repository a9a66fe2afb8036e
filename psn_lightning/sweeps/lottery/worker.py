"""Process of a level: makes the ticket, fits it, and writes the result. Its exit code is that of ``psn-train fit``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import lightning.pytorch as pl
import torch
from mlflow.entities import Run, RunStatus

from psn_lightning.checkpoints import RewindPoint
from psn_lightning.checkpoints.lottery import count_connections
from psn_lightning.commands.exit_codes import report_error
from psn_lightning.commands.newest_checkpoint import newest_origin
from psn_lightning.commands.training import silence_libraries
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.logs import redirect_output
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles, Result
from psn_lightning.sweeps.lottery.settings import Lottery
from psn_lightning.sweeps.lottery.tickets import load, prepare_ticket
from psn_lightning.sweeps.trials import run_fit
from psn_lightning.sweeps.worker import DONE, FAILED, StopHandler
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.local_database import lock_folder
from psn_lightning.tracking.mlflow_private import MLFLOW_PARENT_RUN_ID
from psn_lightning.tracking.model_names import NO_MODEL
from psn_lightning.tracking.store import patiently

_PATIENCE_SECONDS = 600.0  # that a fit waits for MLflow at its start; later it does not wait


@dataclass(frozen=True)
class Job:
    """A level, and everything that its process has to know.

    Args:
        lottery: Settings of the lottery.
        config: Complete configuration of the fits.
        parent: MLflow run of the lottery.
        level: Level to fit.
    """

    lottery: Lottery
    config: dict[str, Any]
    parent: str
    level: Level

    @property
    def tracking(self) -> dict[str, Any]:
        """Tracking settings: nested in the lottery's run, under a name of its own."""
        given, level = self.config["tracking"], self.level
        tags = {
            MLFLOW_PARENT_RUN_ID: self.parent,
            "lottery": self.lottery.name,
            "level": str(level.number),
            "role": level.control or ("ticket" if level.number else "dense"),
        }
        name = f"{self.lottery.name}-{level.name}"
        return {**given, **NO_MODEL, "run_name": name, "tags": {**(given["tags"] or {}), **tags}}


def start_level(job: Job, n_threads: int, environment: Mapping[str, str], progress: Connection) -> None:
    """Run a level in a process of its own, and exit with its code.

    Args:
        job: Level to run.
        n_threads: Number of torch's threads.
        environment: Environment variables of the process; a fork server has those of the time when it was started.
        progress: Connection that gets the number of epochs and the metric after every epoch.
    """
    os.setpgrp()  # Ctrl-C reaches the command alone, which stops its level in turn
    os.environ.clear()
    os.environ.update(environment)
    redirect_output(LotteryFiles(job.lottery.name).log(job.level))
    torch.set_num_threads(n_threads)
    silence_libraries()
    threading.Thread(target=_stop_with_command, daemon=True).start()
    sys.exit(run_level(job, EpochSender(progress, job.lottery.metric)))


def _stop_with_command() -> None:
    """Stop this process when the command has ended."""
    command = multiprocessing.parent_process()
    if command is not None:
        wait([command.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


class EpochSender(pl.Callback):
    """Sends the number of epochs and a metric after every epoch.

    Args:
        progress: Connection to send to.
        metric: Name of the metric.
    """

    def __init__(self, progress: Connection, metric: str) -> None:
        self._progress = progress
        self._metric = metric

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the epoch."""
        value = trainer.callback_metrics.get(self._metric)
        with suppress(OSError):  # the command has ended, and this process is about to be stopped
            self._progress.send((trainer.current_epoch + 1, None if value is None else float(value)))


class MetricCheck(pl.Callback):
    """Ends a fit after its first evaluation if it has no metric of a name; before, nobody knows what a module logs.

    Args:
        metric: Name of the metric.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._is_evaluated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note an evaluation."""
        self._is_evaluated = not trainer.sanity_checking

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the metrics of the epochs so far.

        Raises:
            SettingError: If the metric is not among them.
        """
        if trainer.current_epoch and (self._is_evaluated or not trainer.enable_validation):
            assert isinstance(trainer.logger, MLflowLogger)
            _get_metric(trainer.logger.metrics, self._metric)


def run_level(job: Job, *callbacks: pl.Callback) -> int:
    """Run a level in this process, and write its result.

    Args:
        job: Level to run.
        callbacks: Callbacks beside those of the configuration.

    Returns:
        Exit code: 0 if the level is finished, 2 if a setting cannot work, 143 if it was stopped, 1 if it failed.
    """
    stop = StopHandler()
    signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    files = LotteryFiles(job.lottery.name)
    try:
        with stop.interrupt_run(), lock_folder(files.folder):  # the process of a killed command may be about to end
            result = patiently(partial(fit_level, job, callbacks), _PATIENCE_SECONDS)
    except (Exception, SystemExit) as error:  # Lightning's stop is a SystemExit
        code = report_error(error, debug=False)
        if code is None:
            traceback.print_exc()
            return FAILED
        return code
    files.write_result(job.level, result)
    return DONE


def fit_level(job: Job, callbacks: tuple[pl.Callback, ...]) -> Result:
    """Fit a level, or the part of it that is not done yet.

    Raises:
        SettingError: If the configuration cannot work.
    """
    files, config = LotteryFiles(job.lottery.name), {**job.config, "tracking": job.tracking}
    safe = config["weights_only"] is not False
    logger = MLflowLogger(**config["tracking"])
    earlier = _find_earlier(logger, job.parent)
    if job.level.number == 0:
        start = None
        callbacks = (*callbacks, RewindPoint(job.lottery.rewind, files.rewind), MetricCheck(job.lottery.metric))
    else:
        start = str(prepare_ticket(job.lottery, job.config, job.level))
    if earlier is None or not _is_finished(earlier, job.lottery.metric):
        if earlier is not None and (start is None or newest_origin(logger, "last", safe).path is not None):
            start = "last"
        cli = run_fit(config, ["--ckpt_path", start] if start else [], callbacks)
        assert isinstance(cli.trainer.logger, MLflowLogger)
        run, metrics = cli.trainer.logger.run, dict(cli.trainer.logger.metrics)
    else:
        run, metrics = earlier.info.run_id, earlier.data.metrics
    last = newest_origin(logger, "last", safe).path
    assert last is not None
    connections = count_connections(load(last, safe))
    return Result(run, str(last), connections, _get_metric(metrics, job.lottery.metric), job.lottery.metric)


def _find_earlier(logger: MLflowLogger, parent: str) -> Run | None:
    """Find the run of this level that an earlier process began; None without one."""
    earlier = logger.newest_fit()
    if earlier is not None and earlier.data.tags.get(MLFLOW_PARENT_RUN_ID) != parent:
        return None  # of another lottery that had this name
    return earlier


def _is_finished(run: Run, metric: str) -> bool:
    return run.info.status == RunStatus.to_string(RunStatus.FINISHED) and metric in run.data.metrics


def _get_metric(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        known = ", ".join(sorted(key for key in metrics if not key.startswith(("topology/", "fan_in/", "sparsity/"))))
        raise SettingError(f"--metric {name}: the fits have no such metric, only {known}")
    return metrics[name]
