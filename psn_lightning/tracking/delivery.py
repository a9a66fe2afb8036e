"""Brings what a spool holds into MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_warn
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.tracking.spool import Operation, Spool
from psn_lightning.tracking.store import KILLED_TAG, Store

_T = TypeVar("_T")

OFFLINE_TAG = "offline_id"
"""Tag of a run that began without the store: what it was called until then."""


class Delivery:
    """Does a spool's operations to its run, each with the effect of once however often it is tried.

    A metric that the run already has at that step, or a later one, is left out: what a run that is continued
    computes again is not logged again.

    Args:
        store: The store.
        spool: The spool.
    """

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._last_step: dict[str, int] | None = None  # of each metric that the run has

    def next(self) -> bool:
        """Do the first operation that is pending.

        What the store refuses, and would refuse for ever, is put aside: it must not be in the way of the rest.

        Returns:
            Whether there was one.

        Raises:
            MlflowException: If the store does not take it; likewise SQLAlchemyError and OSError. It stays pending.
            ValueError: If the spool was tampered with.
        """
        for operation, position in self._spool.pending():
            try:
                self._do[operation["do"]](self, operation)
            except MlflowException as error:
                if not self._store.has_refused(error):
                    raise
                self._spool.put_aside(operation, str(error))
                rank_zero_warn(
                    f"MLflow ({self._store.shown}) refuses {operation['do']} of the run ({in_one_line(error)}): kept "
                    f"in {self._spool.refused}, the rest goes on"
                )
            self._spool.mark(position)
            return True
        return False

    @property
    def _client(self) -> MlflowClient:
        return self._store.client

    @property
    def run(self) -> str:
        """Id of the run; one that began without the store is made now."""
        run = self._spool.run
        if run.run_id is None:
            experiment = experiment_id(self._store, run.experiment)
            made = find_offline(self._client, experiment, str(run.offline_id))  # the answer may have been lost
            name = {MLFLOW_RUN_NAME: run.name} if run.name else {}
            tags = {**run.tags, **name, OFFLINE_TAG: str(run.offline_id)}
            made = made or self._client.create_run(experiment, start_time=run.started, tags=tags)
            self._spool.exists_as(made.info.run_id)
            return str(made.info.run_id)
        return run.run_id

    def _metrics(self, operation: Operation) -> None:
        if self._last_step is None:
            self._last_step = self._steps()
        fresh = [Metric(*metric) for metric in operation["metrics"] if metric[3] > self._last_step.get(metric[0], -1)]
        for chunk in _in_chunks(fresh, MAX_METRICS_PER_BATCH):
            self._client.log_batch(self.run, metrics=chunk)
            self._last_step |= {metric.key: metric.step for metric in chunk}

    def _steps(self) -> dict[str, int]:
        """Last step of each metric that the run had when this delivery began."""
        histories = {key: self._client.get_metric_history(self.run, key) for key in self._look().data.metrics}
        return {key: max(metric.step for metric in history) for key, history in histories.items()}

    def _params(self, operation: Operation) -> None:
        have = self._look().data.params  # a parameter cannot be logged a second time with another value
        fresh = [Param(key, value) for key, value in operation["params"].items() if key not in have]
        for chunk in _in_chunks(fresh, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self.run, params=chunk)

    def _tags(self, operation: Operation) -> None:
        tags = [RunTag(key, value) for key, value in operation["tags"].items()]
        for chunk in _in_chunks(tags, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self.run, tags=chunk)

    def _artifacts_(self, operation: Operation) -> None:
        self._client.log_artifacts(self.run, str(self._spool.files_of(operation)))

    def _goes_on(self, operation: Operation) -> None:
        tags, step = self._look().data.tags, str(operation["step"])
        earlier = [part for part in tags.get("resumed_at", "").split(", ") if part]
        if earlier[-1:] != [step]:
            self._client.set_tag(self.run, "resumed_at", ", ".join([*earlier, step]))
        if KILLED_TAG in tags:
            self._client.delete_tag(self.run, KILLED_TAG)
        self._client.update_run(self.run, status="RUNNING")

    def _ends(self, operation: Operation) -> None:
        if operation["killed"] is not None:
            self._client.set_tag(self.run, KILLED_TAG, operation["killed"])
        elif KILLED_TAG in self._look().data.tags:  # it was only thought dead, while the store knew nothing of its end
            self._client.delete_tag(self.run, KILLED_TAG)
        self._client.set_terminated(self.run, operation["status"], operation["time"])

    def _look(self) -> Run:
        return self._client.get_run(self.run)

    _do: dict[str, Callable[[Delivery, Operation], None]] = {  # noqa: RUF012  # never changed
        "metrics": _metrics,
        "params": _params,
        "tags": _tags,
        "artifacts": _artifacts_,
        "goes on": _goes_on,
        "ends": _ends,
    }


def _in_chunks(entries: list[_T], size: int) -> Iterator[list[_T]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def experiment_id(store: Store, name: str) -> str:
    """Id of an experiment, which is made if it is not there; several processes may try.

    Raises:
        SettingError: If it was deleted.
        MlflowException: If it cannot be made.
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


def find_offline(client: MlflowClient, experiment: str, offline_id: str) -> Run | None:
    """The run that began without the store under a name; None if it is not there yet."""
    runs = client.search_runs([experiment], f"tags.{OFFLINE_TAG} = '{offline_id}'", max_results=1)
    return next(iter(runs), None)
