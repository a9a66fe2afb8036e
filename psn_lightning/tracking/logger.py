"""MLflow as Lightning's logger: complete, one run per fit, and never in the way of the training."""

from __future__ import annotations

import re
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH

from psn_lightning.tracking.outbox import Outbox
from psn_lightning.tracking.run import OnError, TrackedRun
from psn_lightning.tracking.spool import SpooledRun
from psn_lightning.tracking.store import Store

_FLUSH_SECONDS = 10.0  # how stale the MLflow UI may be
_STATUS = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}  # Lightning's words in MLflow's


class MLflowLogger(Logger):
    """Logs a run to MLflow.

    What is logged is collected, written to a spool on disk every few seconds, and brought into the store by a thread of
    its own: a store that is slow or goes away neither slows nor stops the run. What it does not have at the run's end
    stays in the spool, for ``psn-train sync``. Parameters are never cut: a value longer than MLflow takes becomes an
    artifact that the parameter names.

    Args:
        uri: MLflow store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.
        experiment: Name of the MLflow experiment.
        run_name: Name of the run; None lets MLflow invent one.
        tags: Further tags of the run.
        on_error: What to do where the store is away at the start: fail at once, or spool: begin without it.

    Raises:
        SettingError: If the store is of a kind that MLflow does not take, or its folder cannot be made.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "psn_lightning",
        run_name: str | None = None,
        tags: dict[str, str] | None = None,
        on_error: OnError = "fail",
    ) -> None:
        super().__init__()
        self.store = Store(uri)
        self._tracked = TrackedRun(self.store, experiment, run_name, tags, on_error)
        self._outbox: Outbox | None = None
        self._buffer: list[list[Any]] = []
        self._last_step: dict[str, int] = {}
        self._killed: str | None = None
        self._flushed = time.monotonic()
        self._renamed: set[str] = set()

    @property
    def save_dir(self) -> str:
        """Folder of the local store; ``mlruns`` where the store is a server. Checkpoints go below it."""
        return str(self.store.home)

    @property
    def client(self) -> MlflowClient:
        """To look things up with; a look at it starts no run.

        Not named ``experiment`` as in Lightning's loggers: the Trainer would look at it before data and callbacks are
        set up, and what fails there shall leave nothing behind.
        """
        return self.store.client

    @property
    def run_id(self) -> str | None:
        """Id of the run, which begins with the first use of it; None on processes other than the first."""
        self.start()
        return self._tracked.id

    @property
    def run(self) -> str:
        """Id of the run, on the first process."""
        run_id = self.run_id
        assert run_id is not None, "only the first process has a run"
        return run_id

    @property
    def name(self) -> str | None:
        """Id of the MLflow experiment, a folder of checkpoints; None on processes other than the first."""
        self.start()
        return self._tracked.names[0]

    @property
    def version(self) -> str | None:
        """Id of the run when it began, the folder in it."""
        self.start()
        return self._tracked.names[1]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Last value of each of the run's metrics."""
        return self._tracked.metrics

    @property
    def configured(self) -> bool:
        """Whether the run has its configuration already: it is one that goes on."""
        self.start()
        return self._tracked.configured

    @property
    def undelivered(self) -> Path | None:
        """The spool of an ended run, where the store does not have everything; else None."""
        folder = self._tracked.spool
        return folder if self._outbox is None and folder.is_dir() else None

    @property
    def may_spool(self) -> bool:
        """Whether a run begins although the store is away."""
        return self._tracked.on_error == "spool"

    def described(self) -> str:
        """Experiment and run name in words."""
        name = f" named {self._tracked.name!r}" if self._tracked.name else ""
        return f"experiment {self._tracked.experiment!r}{name}"

    def is_called(self, run: SpooledRun) -> bool:
        """Whether a spooled run is of this experiment and name; without a name all are."""
        return run.experiment == self._tracked.experiment and self._tracked.name in (None, run.name)

    def newest_fit(self) -> Run | None:
        """The newest training run of this experiment and name; None without any.

        Raises:
            StoreAwayError: If the store does not answer.
        """
        return self.store.newest_fit(self._tracked.experiment, self._tracked.name)

    def resume(self, run_id: str, step: int, checkpoint: Path | None = None) -> None:
        """Go on with a run instead of beginning one.

        Once it starts it is RUNNING again, and what it has already is not logged a second time.

        Args:
            run_id: The MLflow run, or what one is called that began without the store.
            step: Where it goes on; tagged as ``resumed_at``.
            checkpoint: From which; further ones go where it is.
        """
        self._tracked.resume(run_id, step, checkpoint)

    def branch_off(self, run_id: str | None, step: int, changed: Mapping[str, tuple[Any, Any]]) -> None:
        """Tag the run that will be as the continuation of another one under other settings.

        Args:
            run_id: The run that it comes from; None where that was not tracked.
            step: Where it goes on.
            changed: ``{key: (before, now)}``.
        """
        self._tracked.branch_off(run_id, step, changed)

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Give the run further tags to begin with."""
        self._tracked.tags |= tags

    def kill(self, reason: str) -> None:
        """Have the run end as KILLED, not FAILED: it was ended on purpose.

        Args:
            reason: Why; tagged.
        """
        self._killed = reason

    @rank_zero_only
    def start(self) -> None:
        """Begin the run, or take it up, once.

        Raises:
            StoreAwayError: If the store does not answer, and ``on_error`` is ``fail``.
        """
        if not self._tracked.started:
            self._outbox = self._tracked.start()

    @property
    def _out(self) -> Outbox:
        """The run's outbox; opened again where something is logged after the run has ended."""
        self.start()
        if self._outbox is None:
            self._outbox = self._tracked.open()
        return self._outbox

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log parameters, already flat, each in full."""
        flat = vars(params) if isinstance(params, Namespace) else params
        texts = {self._allowed(key): str(value) for key, value in flat.items()}
        for key, text in texts.items():
            if len(text) > MAX_PARAM_VAL_LENGTH:
                path = f"params/{key}.txt"
                self.log_text(text, path)
                texts[key] = f"{len(text)} characters, in the artifact {path}"
        self._out.put("params", params=texts)

    @rank_zero_only
    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log tags."""
        self._out.put("tags", tags=dict(tags))

    @rank_zero_only
    def log_text(self, text: str, path: str) -> None:
        """Log a text as an artifact.

        Args:
            text: The text.
            path: Of the artifact.
        """
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            self.log_artifacts(Path(scratch))

    @rank_zero_only
    def log_artifacts(self, folder: Path) -> None:
        """Log the files of a folder, and what links in it point to, as artifacts of the same relative path."""
        self._out.put_files(folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Collect metrics; hand them on when there are many or the last batch is some seconds old.

        Each metric has one value per step, and steps only grow.
        """
        now, step = int(time.time() * 1000), step or 0
        for key, value in ((self._allowed(name), value) for name, value in metrics.items()):
            if key != "epoch" and step > self._last_step.get(key, -1):
                self._buffer.append([key, float(value), now, step])
                self._last_step[key] = step
                self._tracked.metrics[key] = float(value)
        if len(self._buffer) >= MAX_METRICS_PER_BATCH or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def _allowed(self, name: str) -> str:
        """A name that MLflow takes; another one is told of once."""
        parts = re.sub(r"[^\w./: -]", "_", name).split("/")
        allowed = "/".join(part for part in parts if part not in ("", ".", ".."))[:MAX_ENTITY_KEY_LENGTH]
        if allowed != name and name not in self._renamed:
            self._renamed.add(name)
            rank_zero_warn(f"MLflow takes no {name!r} as a name: logged as {allowed!r}")
        return allowed

    @rank_zero_only
    def flush(self) -> None:
        """Write what was collected to the disk; a kill after this loses nothing of it."""
        if self._buffer:
            self._out.put("metrics", metrics=self._buffer)
            self._buffer = []
        self._flushed = time.monotonic()

    @rank_zero_only
    def hand_over(self) -> None:
        """Wait until the store has everything, as long as it takes something; the run does not end by that."""
        self.flush()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Close the run, and hand over what the store does not have."""
        self.flush()  # which begins the run, if there is anything to send
        if self._tracked.started:
            ended = "KILLED" if self._killed is not None else _STATUS.get(status, status)
            self._out.put("ends", status=ended, killed=self._killed, time=int(time.time() * 1000))
            self.hand_over()
