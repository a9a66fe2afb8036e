"""Writes what a run logs to MLflow, so that an operation repeated has the effect of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from psn_lightning.errors import SettingError
from psn_lightning.tracking.models import log_dataset, log_model
from psn_lightning.tracking.store import KILLED_TAG, Store

Kind = Literal["metrics", "params", "tags", "artifact", "dataset", "model", "resume", "end"]
"""Operation on a run."""

OFFLINE_TAG = "offline_id"
"""Tag of a run that began while its server was away: its id until then."""


class RunWriter:
    """Writes to a run that exists.

    A metric is left out if the run has it at that step or a later one: steps that a resumed run computes again are not
    logged again.

    Args:
        client: MLflow's client.
        run_id: Run to write to.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._last_steps: dict[str, int] | None = None

    def write(self, kind: Kind, content: Mapping[str, Any]) -> None:
        """Do one operation.

        Raises:
            MlflowException: If the store is away or refuses it; likewise SQLAlchemyError and OSError.
        """
        getattr(self, kind)(**content)

    def metrics(self, metrics: Sequence[tuple[str, float, int, int]]) -> None:
        """Log metrics as (key, value, milliseconds since 1970, step)."""
        if self._last_steps is None:
            self._last_steps = self._read_last_steps()
        fresh = [Metric(*metric) for metric in metrics if metric[3] > self._last_steps.get(metric[0], -1)]
        self._client.log_batch(self._run_id, metrics=fresh)
        self._last_steps |= {metric.key: metric.step for metric in fresh}

    def params(self, params: Mapping[str, str]) -> None:
        """Log parameters that the run lacks: MLflow refuses to change one."""
        known = self._run().data.params
        fresh = [Param(key, value) for key, value in params.items() if key not in known]
        self._client.log_batch(self._run_id, params=fresh)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def artifact(self, file: str, folder: str) -> None:
        """Log a file as an artifact."""
        self._client.log_artifact(self._run_id, file, folder if folder != "." else None)

    def dataset(self, name: str, digest: str, source: str) -> None:
        """Log the data set that the run trains on.

        Args:
            name: Name of the data set.
            digest: Digest of its files; MLflow keeps 36 characters.
            source: Folder or address that it was read from.
        """
        log_dataset(self._client, self._run_id, name, digest, source)

    def model(self, **content: Any) -> None:
        """Log a model; see :func:`~psn_lightning.tracking.models.log_model`."""
        log_model(self._client, self._run(), **content)

    def resume(self, step: int) -> None:
        """Set the status to RUNNING, and record the step at which the run goes on."""
        tags = self._run().data.tags
        earlier = [part for part in tags.get("resumed_at", "").split(", ") if part]
        if earlier[-1:] != [str(step)]:
            self._client.set_tag(self._run_id, "resumed_at", ", ".join([*earlier, str(step)]))
        if KILLED_TAG in tags:
            self._client.delete_tag(self._run_id, KILLED_TAG)
        self._client.update_run(self._run_id, status="RUNNING")

    def end(self, status: str, killed: str | None, time: int) -> None:
        """Set the final status.

        Args:
            status: MLflow's word for it.
            killed: Reason why the run was stopped; None if it was not.
            time: Milliseconds since 1970.
        """
        if killed is not None:
            self._client.set_tag(self._run_id, KILLED_TAG, killed)
        elif KILLED_TAG in self._run().data.tags:  # another command took it for dead while its end was queued
            self._client.delete_tag(self._run_id, KILLED_TAG)
        self._client.set_terminated(self._run_id, status, time)

    def _read_last_steps(self) -> dict[str, int]:
        """Last step of each metric that the run has."""
        histories = {key: self._client.get_metric_history(self._run_id, key) for key in self._run().data.metrics}
        return {key: max(metric.step for metric in history) for key, history in histories.items()}

    def _run(self) -> Run:
        return self._client.get_run(self._run_id)


def ensure_experiment(store: Store, name: str) -> str:
    """Id of an experiment, which is created if there is none; several processes may call this at once.

    Raises:
        SettingError: If the experiment was deleted.
        MlflowException: If it cannot be created.
    """
    client = store.client
    found: Any = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=store.artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was first
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise SettingError(
            f"tracking.experiment {name!r} was deleted in {store.shown}: name another, or restore it with mlflow "
            f"experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def find_offline_run(client: MlflowClient, experiment: str, offline_id: str) -> Run | None:
    """Run that began while the server was away; None if it has not been sent."""
    runs = client.search_runs([experiment], f"tags.{OFFLINE_TAG} = '{offline_id}'", max_results=1)
    return next(iter(runs), None)
