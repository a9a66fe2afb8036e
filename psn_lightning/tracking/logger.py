"""MLflow as Lightning's logger: batched, complete, one run per fit."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

from psn_lightning.tracking.store import URI_VARIABLE, Store

KILLED_TAG = "killed"
"""Tag of a run that was ended on purpose: why."""

_FLUSH_SECONDS = 10.0  # how stale the MLflow UI may be


class Tracking(MLFlowLogger):
    """Logs a run to MLflow.

    Metrics are collected and sent in batches (a synchronous call to sqlite costs some 10 ms); parameters
    are never cut: a value longer than MLflow takes becomes an artifact that the parameter names.

    Args:
        uri: MLflow store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.
        experiment: Name of the MLflow experiment.
        run_name: Name of the run; None lets MLflow invent one.
        tags: Further tags of the run.

    Raises:
        SettingError: If the store cannot be reached or is of a kind that MLflow no longer takes.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "psn_lightning",
        run_name: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.store = Store(uri)
        self._buffer: list[Metric] = []
        self._last_step: dict[str, int] = {}
        self._resumed_at: int | None = None
        self._configured = False
        self._killed: str | None = None
        self._flushed = time.monotonic()
        with self.store.told():
            super().__init__(
                experiment_name=experiment,
                run_name=run_name,
                tracking_uri=self.store.absolute,
                tags=tags,
                artifact_location=self.store.artifacts,
            )

    @property
    def uri(self) -> str:
        """The store's address, as it was given."""
        return self.store.uri

    @property
    def save_dir(self) -> str:
        """Folder of the local store; ``mlruns`` where the store is a server. Checkpoints go below it."""
        return str(self.store.folder or "mlruns")

    @property
    def experiment(self) -> MlflowClient:
        """The client. Unlike in Lightning's logger a look at it starts no run.

        The Trainer looks at it before data and callbacks are set up; what fails there leaves no run behind.
        """
        return self._mlflow_client

    @property
    def run_id(self) -> str | None:
        """Id of the run, which begins with the first use of it; None on processes other than the first."""
        self.start()
        return self._run_id

    @property
    def run(self) -> str:
        """Id of the run, on the first process."""
        run_id = self.run_id
        assert run_id is not None, "only the first process has a run"
        return run_id

    @property
    def experiment_id(self) -> str | None:
        """Id of the MLflow experiment; None on processes other than the first."""
        self.start()
        return self._experiment_id

    def described(self) -> str:
        """Experiment and run name in words."""
        name = f" named {self._run_name!r}" if self._run_name else ""
        return f"experiment {self._experiment_name!r}{name}"

    def newest_fit(self) -> Run | None:
        """The newest training run of this experiment and name; None without any.

        Raises:
            SettingError: If the store does not answer.
        """
        return self.store.newest_fit(self._mlflow_client, self._experiment_name, self._run_name)

    def resume(self, run_id: str, step: int) -> None:
        """Go on with a run instead of beginning one.

        Once it starts it is RUNNING again, and what it has already is not logged a second time.

        Args:
            run_id: The MLflow run.
            step: Where it goes on; tagged as ``resumed_at``.
        """
        self._run_id = run_id
        self._resumed_at = step

    @property
    def configured(self) -> bool:
        """Whether the run has its configuration already: it is one that goes on."""
        self.start()
        return self._configured

    def branch_off(self, run_id: str | None, step: int, changed: Mapping[str, tuple[Any, Any]]) -> None:
        """Tag the run that will be as the continuation of another one under other settings.

        Args:
            run_id: The run that it comes from; None where that was not tracked.
            step: Where it goes on.
            changed: ``{key: (before, now)}``.
        """
        listed = "; ".join(f"{key}: {before!r} → {now!r}" for key, (before, now) in changed.items())
        origin = {"branched_from": run_id or "an untracked run", "branched_at": str(step), "branched_with": listed}
        self.tags = {**(self.tags or {}), **origin}

    def kill(self, reason: str) -> None:
        """Have the run end as KILLED, not FAILED: it was ended on purpose.

        Args:
            reason: Why; tagged.
        """
        self._killed = reason

    @rank_zero_only
    def start(self) -> None:
        """Create experiment and run, once.

        Raises:
            SettingError: If the store does not answer.
        """
        if self._initialized:
            return
        environment = os.environ.get(URI_VARIABLE)
        with self.store.told():
            self.store.check()
            _ = super().experiment
            if self._resumed_at is not None:
                self._take_up()
        # Lightning's logger leaves its store in the environment, where the next run would take it for the user's.
        if environment is None:
            os.environ.pop(URI_VARIABLE, None)
        else:
            os.environ[URI_VARIABLE] = environment

    def _take_up(self) -> None:
        client, run_id = self._mlflow_client, self._run_id
        assert run_id is not None
        run = client.get_run(run_id)
        self._configured = bool(run.data.params)
        for key in run.data.metrics:
            self._last_step[key] = max(metric.step for metric in client.get_metric_history(run_id, key))
        client.update_run(run_id, status="RUNNING")
        earlier = run.data.tags.get("resumed_at")
        client.set_tag(run_id, "resumed_at", f"{earlier}, {self._resumed_at}" if earlier else str(self._resumed_at))
        if KILLED_TAG in run.data.tags:
            client.delete_tag(run_id, KILLED_TAG)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log parameters, already flat, each in full."""
        flat = vars(params) if isinstance(params, Namespace) else params
        entries = []
        for key, value in flat.items():
            text = str(value)
            if len(text) > MAX_PARAM_VAL_LENGTH:
                path = f"params/{key}.txt"
                self.experiment.log_text(self.run, text, path)
                text = f"{len(text)} characters, in the artifact {path}"
            entries.append(Param(key, text))
        for start in range(0, len(entries), MAX_PARAMS_TAGS_PER_BATCH):
            self.experiment.log_batch(self.run, params=entries[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Collect metrics; send them when there are many or the last batch is some seconds old.

        Each metric has one value per step, and steps only grow: what a run that is continued computes
        again is not logged again.
        """
        now, step = int(time.time() * 1000), step or 0
        for key, value in metrics.items():
            if key != "epoch" and step > self._last_step.get(key, -1):
                self._buffer.append(Metric(key, float(value), now, step))
                self._last_step[key] = step
        if len(self._buffer) >= MAX_METRICS_PER_BATCH or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Send what was collected."""
        while self._buffer:
            chunk = self._buffer[:MAX_METRICS_PER_BATCH]
            self.experiment.log_batch(self.run, metrics=chunk)
            del self._buffer[: len(chunk)]
        self._flushed = time.monotonic()

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Send the rest and close the run."""
        self.flush()  # which begins the run, if there is anything to send
        if self._killed is not None and self._initialized:
            self.experiment.set_tag(self.run, KILLED_TAG, self._killed)
            status = "KILLED"
        super().finalize(status)
