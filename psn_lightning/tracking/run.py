"""The MLflow run that is logged to: a new one, one that is resumed, or one that begins while its server is away."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_warn
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from psn_lightning.errors import SettingError
from psn_lightning.tracking.local_database import lock_folder
from psn_lightning.tracking.mlflow_private import context_tags
from psn_lightning.tracking.outbox import OUTBOXES, Outbox, QueuedRun
from psn_lightning.tracking.processes import identity, is_alive_elsewhere
from psn_lightning.tracking.sender import Sender
from psn_lightning.tracking.sink import LocalSink, Sink
from psn_lightning.tracking.store import PROCESS_TAG, Store, StoreAwayError
from psn_lightning.tracking.writer import ensure_experiment, find_offline_run

OnError = Literal["fail", "queue"]

_OFFLINE = "offline"  # begins the id of a run that began while its server was away, and stands for its experiment's


@dataclass
class TrackedRun:
    """A run of an MLflow experiment; its first arguments are those of :class:`MLflowLogger`."""

    store: Store
    experiment: str
    name: str | None
    tags: dict[str, str]
    on_error: OnError
    id: str | None = None
    """Id of the run; None before it is started."""
    is_configured: bool = False
    """Whether the run has parameters, because it is resumed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of each metric."""
    started: bool = False
    _experiment_id: str | None = None
    _resumed_at: int | None = None
    _names: tuple[str, str] | None = None

    def resume(self, run_id: str, step: int, checkpoint: Path | None) -> None:
        """Resume a run instead of creating one; steps that it has are not logged again.

        Args:
            run_id: MLflow run, or id of a run that began while its server was away.
            step: Step at which it goes on; added to its tag ``resumed_at``.
            checkpoint: Checkpoint that is loaded; further ones go to its folder.
        """
        self.id = run_id
        self._resumed_at = step
        parts = checkpoint.resolve().parts if checkpoint is not None else ()
        if checkpoint is not None and len(parts) >= 4:
            experiment, run, folder = parts[-4:-1]
            if checkpoint.resolve() == (self.store.home / experiment / run / folder / checkpoint.name).resolve():
                self._names = experiment, run

    @property
    def names(self) -> tuple[str | None, str | None]:
        """Folders of the run's checkpoints: ids of experiment and run when it began."""
        return self._names or (self._experiment_id, self.id)

    @property
    def may_queue(self) -> bool:
        """Whether the run may begin while its server is away."""
        return self.on_error == "queue" and self.store.file is None

    @property
    def outbox(self) -> Path:
        """File that queues the operations of a run on a server."""
        return self.store.home / OUTBOXES / f"{self.id}.db"

    def start(self) -> Sink:
        """Create the run, or resume it.

        Raises:
            StoreAwayError: If the store does not answer, and the run may not begin without it.
            SettingError: If the run to resume is not in the store, or is under way.
        """
        try:
            with self.store.told():
                self.store.check()
                if self.store.is_new and self.id is not None:
                    raise self._not_found()
                client, folder = self.store.client, self.store.folder
                with lock_folder(folder) if folder else nullcontext():
                    self._find_or_create(client)
        except StoreAwayError as error:
            if not self.may_queue:
                raise
            self._experiment_id = _OFFLINE
            self.id = self.id or f"{_OFFLINE}-{uuid.uuid4().hex}"
            rank_zero_warn(f"{error}. Training starts; metrics are queued in {self.outbox} and sent when it is back")
        sink = self.open()
        self.started = True
        if self._resumed_at is not None:
            sink.put("tags", tags={PROCESS_TAG: json.dumps(identity())})
            sink.put("resume", step=self._resumed_at)
        return sink

    def open(self) -> Sink:
        """Sink of the run; further ones may be opened after its end."""
        if self.store.file is not None:
            return self._local_sink
        offline_id = self.id if self._is_offline else None
        run_id, now = (None if self._is_offline else self.id), int(time.time() * 1000)
        run = QueuedRun(self.store.uri, self.experiment, run_id, self.name, self._first_tags, now, offline_id)
        return Sender(self.store, Outbox(self.outbox, run))

    @cached_property
    def _local_sink(self) -> LocalSink:
        return LocalSink(self.store, str(self.id))

    @cached_property
    def _first_tags(self) -> dict[str, str]:
        """Tags to create the run with."""
        return context_tags({**self.tags, PROCESS_TAG: json.dumps(identity())})

    @property
    def _is_offline(self) -> bool:
        return str(self.id).startswith(f"{_OFFLINE}-")

    def _find_or_create(self, client: MlflowClient) -> None:
        self._experiment_id = ensure_experiment(self.store, self.experiment)
        self.store.mark_killed([self._experiment_id])
        if self._is_offline and self.store.file is None:
            found = find_offline_run(client, self._experiment_id, str(self.id))
            if found is None:
                self._experiment_id = _OFFLINE  # the sender will create it
                return
            self.id = found.info.run_id
        if self.id is None:
            self.id = client.create_run(self._experiment_id, tags=self._first_tags, run_name=self.name).info.run_id
            return
        try:
            run = client.get_run(self.id)
        except MlflowException as error:
            raise self._not_found() if self.store.has_refused(error) else error from error
        if self.store.file and run.info.status == "RUNNING" and is_alive_elsewhere(run.data.tags.get(PROCESS_TAG, "")):
            raise SettingError(f"run {self.id} is under way in another process: wait for its end, or stop it")
        self._experiment_id = run.info.experiment_id
        self.is_configured = bool(run.data.params)
        self.metrics = dict(run.data.metrics)

    def _not_found(self) -> SettingError:
        return SettingError(
            f"run {self.id} of the checkpoint is not in {self.store.shown}: name the store that has it (tracking.uri), "
            "or resume it without MLflow (trainer.logger false)"
        )
