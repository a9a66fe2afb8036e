"""Which MLflow run is logged to: a new one, one that goes on, or one that begins without the store."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from psn_lightning.errors import SettingError
from psn_lightning.tracking.delivery import experiment_id, find_offline
from psn_lightning.tracking.outbox import Outbox
from psn_lightning.tracking.processes import identity
from psn_lightning.tracking.spool import SpooledRun, check_id
from psn_lightning.tracking.store import PROCESS_TAG, Store, StoreAwayError

OnError = Literal["fail", "spool"]

OFFLINE = "offline"
"""Begins the id of a run that began without the store, and takes the place of its experiment's id."""


class TrackedRun:
    """A run of an MLflow experiment.

    Args:
        store: Where it is recorded.
        experiment: Name of the MLflow experiment.
        name: Name of the run; None lets MLflow invent one.
        tags: Further tags of the run.
        on_error: What to do where the store is away at the start: fail at once, or spool: begin without it.
    """

    def __init__(
        self, store: Store, experiment: str, name: str | None, tags: dict[str, str] | None, on_error: OnError
    ) -> None:
        self.store = store
        self.experiment = experiment
        self.name = name
        self.tags = dict(tags or {})
        self.on_error = on_error
        self.started = False
        self.id: str | None = None
        """Of the run; None before it is started."""
        self.experiment_id: str | None = None
        """Of the experiment; None before the run is started."""
        self.configured = False
        """Whether the run has its parameters already: it is one that goes on."""
        self.metrics: dict[str, float] = {}
        """Last value of each metric."""
        self._resumed_at: int | None = None
        self._names: tuple[str, str] | None = None

    def resume(self, run_id: str, step: int, checkpoint: Path | None) -> None:
        """Go on with a run instead of beginning one.

        Args:
            run_id: The MLflow run, or what one is called that began without the store.
            step: Where it goes on.
            checkpoint: From which; further ones go where it is, if that is a place of ours.
        """
        check_id(run_id)
        self.id = run_id
        self._resumed_at = step
        if checkpoint is not None:
            experiment, run, folder = checkpoint.resolve().parts[-4:-1]
            if checkpoint.resolve() == (self.store.home / experiment / run / folder / checkpoint.name).resolve():
                self._names = experiment, run

    @property
    def names(self) -> tuple[str | None, str | None]:
        """Folder of its checkpoints, and the folder that is in: what it was called when it began."""
        return self._names or (self.experiment_id, self.id)

    def branch_off(self, run_id: str | None, step: int, changed: Mapping[str, tuple[Any, Any]]) -> None:
        """Tag the run that will be as the continuation of another one under other settings."""
        listed = "; ".join(f"{key}: {before!r} → {now!r}" for key, (before, now) in changed.items())
        origin = {"branched_from": run_id or "an untracked run", "branched_at": str(step), "branched_with": listed}
        self.tags |= origin

    def start(self) -> Outbox:
        """Begin the run, or take it up.

        Returns:
            Takes what is to be logged.

        Raises:
            StoreAwayError: If the store does not answer, and ``on_error`` is ``fail``.
        """
        try:
            with self.store.told():
                self.store.check()
                if self.store.is_new and self.id is not None and not self.id.startswith(OFFLINE):
                    raise self._not_found()
                client = self.store.client  # makes a new store, which takes the lock by itself
                with self.store.alone():
                    self._begin_in_store(client)
        except StoreAwayError as error:
            if self.on_error == "fail":
                raise
            self._begin_without_store()
            rank_zero_warn(f"{error}. The run goes on without it (tracking.on_error spool)")
        outbox = self.open()
        self.started = True
        if self._resumed_at is not None:
            outbox.put("tags", tags={PROCESS_TAG: json.dumps(identity())})
            outbox.put("goes on", step=self._resumed_at)
        return outbox

    def _begin_in_store(self, client: MlflowClient) -> None:
        self.experiment_id = experiment_id(self.store, self.experiment)
        self.store.mark_killed([self.experiment_id])
        if self.id is not None and self.id.startswith(OFFLINE):
            made = find_offline(client, self.experiment_id, self.id)
            if made is None:
                self.experiment_id = OFFLINE  # it is in its spool alone
                return
            self.id = made.info.run_id
        if self.id is None:
            self.id = client.create_run(self.experiment_id, tags=self._first_tags()).info.run_id
            return
        try:
            run = client.get_run(self.id)
        except MlflowException as error:
            raise self._not_found() if self.store.has_refused(error) else error from error
        self.experiment_id = run.info.experiment_id
        self.configured = bool(run.data.params)
        self.metrics = dict(run.data.metrics)

    def _not_found(self) -> SettingError:
        return SettingError(
            f"run {self.id} of the checkpoint is not in {self.store.shown}: name the store that has it (tracking.uri), "
            "or go on without MLflow: --trainer.logger false"
        )

    def _begin_without_store(self) -> None:
        self.experiment_id = OFFLINE
        if self.id is None:
            self.id = f"{OFFLINE}-{uuid.uuid4().hex}"

    def _first_tags(self) -> dict[str, str]:
        """Tags that a run begins with: ours, the user's, and those that MLflow finds out about the process."""
        name = {MLFLOW_RUN_NAME: self.name} if self.name else {}
        return dict(resolve_tags({**self.tags, **name, PROCESS_TAG: json.dumps(identity())}))

    def open(self) -> Outbox:
        """An outbox for the run that has been started."""
        offline = self.id if str(self.id).startswith(OFFLINE) else None
        run = SpooledRun(
            uri=self.store.absolute,
            experiment=self.experiment,
            run_id=None if offline else self.id,
            name=self.name,
            tags=self._first_tags(),
            started=int(time.time() * 1000),
            offline_id=offline,
        )
        return Outbox(self.spool, run, self.store)

    @property
    def spool(self) -> Path:
        """Folder of what the store does not have yet."""
        return self.store.home / "spool" / str(self.id)
