"""MLflow as Lightning's logger: batched, complete, one run per fit."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_PROBE_SECONDS = 5.0
_FLUSH_SECONDS = 10.0  # how stale the MLflow UI may be
_SQLITE = "sqlite:///"


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
        uri = uri or os.environ.get(_URI_VARIABLE) or DEFAULT_URI
        if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
            folder = uri.removeprefix("file:").removeprefix("//")
            raise SettingError(f"tracking.uri {uri!r}: MLflow 3 takes no folders; use {_SQLITE}{folder}/mlflow.db")
        self.uri = uri
        self._local = Path(uri.removeprefix(_SQLITE)).parent if uri.startswith(_SQLITE) else None
        if self._local is not None:
            self._make(self._local)
        self._buffer: list[Metric] = []
        self._flushed = time.monotonic()
        with self._told():
            super().__init__(
                experiment_name=experiment,
                run_name=run_name,
                tracking_uri=self._absolute(uri),
                tags=tags,
                artifact_location=None if self._local is None else (self._local / "artifacts").resolve().as_uri(),
            )

    @staticmethod
    def _absolute(uri: str) -> str:
        """MLflow remembers stores by their URI: a relative path would mean the first folder it was used in."""
        return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).resolve()}" if uri.startswith(_SQLITE) else uri

    @staticmethod
    def _make(folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(f"tracking.uri: folder {folder} cannot be made ({error.strerror})") from error

    @property
    def save_dir(self) -> str:
        """Folder of the local store; ``mlruns`` where the store is a server. Checkpoints go below it."""
        return str(self._local or "mlruns")

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

    @rank_zero_only
    def start(self) -> None:
        """Create experiment and run, once.

        Raises:
            SettingError: If the store does not answer.
        """
        if self._initialized:
            return
        environment = os.environ.get(_URI_VARIABLE)
        with self._told():
            if self.uri.startswith("http"):
                _probe(self.uri)  # MLflow itself would retry for minutes
            _ = super().experiment
        # Lightning's logger leaves its store in the environment, where the next run would take it for the user's.
        if environment is None:
            os.environ.pop(_URI_VARIABLE, None)
        else:
            os.environ[_URI_VARIABLE] = environment

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what a store that is away or of no use raises into one line."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingError(
                f"tracking.uri {self.uri!r} cannot be used ({reason}); start it or name another"
            ) from error

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
        """Collect metrics; send them when there are many or the last batch is some seconds old."""
        now = int(time.time() * 1000)
        self._buffer += [Metric(key, float(value), now, step or 0) for key, value in metrics.items() if key != "epoch"]
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
        if self._initialized:
            self.flush()
        super().finalize(status)


def _probe(uri: str) -> None:
    """Ask a server once whether it is there; any HTTP answer will do.

    Raises:
        OSError: If nobody answers.
    """
    with suppress(HTTPError):
        urlopen(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS).close()
