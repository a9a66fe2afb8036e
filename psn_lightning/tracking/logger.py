"""MLflow as a Lightning logger: complete, one run per fit, and out of the way of the training."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import Run

from psn_lightning.tracking.metrics import MetricBuffer, allowed_name
from psn_lightning.tracking.mlflow_private import MAX_PARAM_VAL_LENGTH
from psn_lightning.tracking.model_names import ModelChoice, check_model_names, model_name
from psn_lightning.tracking.run import OnError, TrackedRun
from psn_lightning.tracking.sink import Sink
from psn_lightning.tracking.store import Store

_STATUS = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}  # Lightning's words in MLflow's


class MLflowLogger(Logger):
    """Logs a run to MLflow.

    Metrics are written in batches, every few seconds and with every checkpoint: straight into a local store, for a
    server into an outbox on disk, which a thread sends. A server that is slow or away neither slows nor stops the
    training; ``psn-train sync`` sends what is left. A parameter longer than MLflow allows becomes an artifact.

    Args:
        uri: MLflow store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.
        experiment: Name of the MLflow experiment.
        run_name: Name of the run; None lets MLflow invent one.
        tags: Further tags of the run.
        on_error: Reaction to a server that is away at the start: fail, or queue what is logged until it is back.
        model: Weights that a fit leaves as an MLflow model: of the best checkpoint, of the last step, or none.
        register: Name of the registered model that gets the model as a new version; None registers nothing.
        alias: Alias of that version, which an earlier version loses.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "psn_lightning",
        run_name: str | None = None,
        tags: dict[str, str] | None = None,
        on_error: OnError = "fail",
        model: ModelChoice = "best",
        register: str | None = None,
        alias: str | None = None,
    ) -> None:
        super().__init__()
        check_model_names(model, register, alias)
        self.model, self._register, self._alias = model, register, alias
        self.store = Store(uri)
        self.tracked = TrackedRun(self.store, experiment, run_name, dict(tags or {}), on_error)
        self._sink: Sink | None = None
        self._was_away = False
        self._buffer = MetricBuffer()
        self._killed: str | None = None

    @property
    def save_dir(self) -> str:
        """Folder of the checkpoints: the local store's, or ``mlruns``."""
        return str(self.store.home)

    @property
    def client(self) -> MlflowClient:
        """MLflow's client; using it starts no run."""
        return self.store.client  # not "experiment", which the Trainer would use before data and callbacks are set up

    @property
    def run_id(self) -> str | None:
        """Id of the run, which starts with the first use of this; None on processes other than the first."""
        self.start()
        return self.tracked.id

    @property
    def run(self) -> str:
        """Id of the run, on the first process."""
        assert self.run_id is not None, "only the first process has a run"
        return self.run_id

    @property
    def name(self) -> str | None:
        """Id of the experiment, a folder of checkpoints; None on processes other than the first."""
        self.start()
        return self.tracked.names[0]

    @property
    def version(self) -> str | None:
        """Id of the run when it began, the folder in that; None on processes other than the first."""
        self.start()
        return self.tracked.names[1]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Last value of each of the run's metrics."""
        return self.tracked.metrics | self._buffer.latest

    @property
    def configured(self) -> bool:
        """Whether the run has its configuration already, because it is resumed."""
        self.start()
        return self.tracked.is_configured

    @property
    def undelivered(self) -> Path | None:
        """Outbox of a run that has ended, if MLflow lacks some of it; else None."""
        return self.tracked.outbox if self._sink is None and self.tracked.outbox.exists() else None

    def newest_fit(self) -> Run | None:
        """Find the newest training run of this experiment and run name; see :meth:`Store.newest_fit`."""
        return self.store.newest_fit(self.tracked.experiment, self.tracked.name)

    def resume(self, run_id: str, step: int, checkpoint: Path | None = None) -> None:
        """Resume a run, from a checkpoint at a step, instead of creating one; see :meth:`TrackedRun.resume`."""
        self.tracked.resume(run_id, step, checkpoint)

    def branch_off(self, run_id: str | None, step: int, changed: Mapping[str, tuple[Any, Any]]) -> None:
        """Tag the new run as the continuation of another one, which may be untracked, with other settings."""
        listed = "; ".join(f"{key}: {before!r} → {now!r}" for key, (before, now) in changed.items())
        origin = run_id or "an untracked run"
        self.add_tags({"branched_from": origin, "branched_at": str(step), "branched_with": listed})

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Add tags to create the run with."""
        self.tracked.tags |= tags

    def kill(self, reason: str) -> None:
        """Let the run end as KILLED instead of FAILED, tagged with the reason: it is stopped on purpose."""
        self._killed = reason

    @rank_zero_only
    def start(self) -> None:
        """Create the run, or resume it, once; see :meth:`TrackedRun.start`."""
        if not self.tracked.started:
            self._sink = self.tracked.start()

    def _open(self) -> Sink:
        """Sink of the run, opened again if something is logged after its end."""
        self.start()
        if self._sink is None:
            self._sink = self.tracked.open()
        return self._sink

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log parameters, already flat, each in full."""
        flat = vars(params) if isinstance(params, Namespace) else params
        texts = {allowed_name(key): str(value) for key, value in flat.items()}
        for key, text in texts.items():
            if len(text) > MAX_PARAM_VAL_LENGTH:
                path = f"params/{key}.txt"
                self.log_text(text, path)
                texts[key] = f"{len(text)} characters, in the artifact {path}"
        self._open().put("params", params=texts)

    @rank_zero_only
    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log tags."""
        self._open().put("tags", tags=dict(tags))

    @rank_zero_only
    def log_text(self, text: str, path: str) -> None:
        """Log a text as an artifact of the given path."""
        with tempfile.TemporaryDirectory() as scratch:
            (file := Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            self.log_artifacts(Path(scratch))

    @rank_zero_only
    def log_artifacts(self, folder: Path) -> None:
        """Log the files of a folder, and those that its links point to, as artifacts of the same relative paths."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self._open().put_file(path, path.parent.relative_to(folder))

    @rank_zero_only
    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Log the data set that the run trains on; see :meth:`RunWriter.dataset`."""
        self._open().put("dataset", name=name, digest=digest, source=source)

    @rank_zero_only
    def log_model(self, folder: Path, step: int, metrics: Sequence[str]) -> None:
        """Log a model, after the end of the run too.

        Args:
            folder: Folder of a model in MLflow's format.
            step: Optimizer step of its weights.
            metrics: Metrics of the run to link to the model.
        """
        self.flush()
        content = {"key": uuid.uuid4().hex, "name": model_name(self.tracked.name), "step": step}
        names = {"metrics": list(metrics), "register": self._register, "alias": self._alias}
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(shutil.make_archive(f"{scratch}/model", "zip", folder))
            try:
                self._open().put_model(archive, **content, **names)
            finally:
                self.hand_over()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Collect metrics; write them if there are many, or the last batch is some seconds old.

        Args:
            metrics: Values by name.
            step: Step of the values; the one after the last of each metric by default.
        """
        if self._buffer.add(metrics, step):
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write collected metrics to disk; a kill after this call loses none of them."""
        with self._buffer.batch() as batch:
            if batch:
                self._open().put("metrics", metrics=batch)

    @rank_zero_only
    def hand_over(self) -> None:
        """Wait until the store has everything that was logged; the run goes on."""
        self.flush()
        if self._sink is not None:
            self._sink.close(self._was_away)
            self._sink = None
            self._was_away = self.undelivered is not None

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """End the run, and wait until the store has everything."""
        self.flush()  # starts the run if metrics were collected
        if self.tracked.started:
            ended = "KILLED" if self._killed is not None else _STATUS.get(status, status)
            self._open().put("end", status=ended, killed=self._killed, time=int(time.time() * 1000))
            self.hand_over()
