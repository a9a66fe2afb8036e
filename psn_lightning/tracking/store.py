"""The MLflow store that runs are recorded in: where it is, whether it answers, what it has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
_PROBE_SECONDS = 5.0
_SQLITE = "sqlite:///"


class Store:
    """A store by its address; the folder of a local one is made.

    Args:
        uri: MLflow store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.

    Raises:
        SettingError: If it is of a kind that MLflow no longer takes, or its folder cannot be made.
    """

    def __init__(self, uri: str | None) -> None:
        uri = uri or os.environ.get(URI_VARIABLE) or DEFAULT_URI
        if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
            folder = uri.removeprefix("file:").removeprefix("//")
            raise SettingError(f"tracking.uri {uri!r}: MLflow 3 takes no folders; use {_SQLITE}{folder}/mlflow.db")
        self.uri = uri
        self.folder = Path(uri.removeprefix(_SQLITE)).parent if uri.startswith(_SQLITE) else None
        """Folder of a local store; None of a server."""
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingError(f"tracking.uri: folder {self.folder} cannot be made ({error.strerror})") from error

    @property
    def absolute(self) -> str:
        """MLflow remembers stores by their URI: a relative path would mean the first folder it was used in."""
        return self.uri if self.folder is None else f"{_SQLITE}{Path(self.uri.removeprefix(_SQLITE)).resolve()}"

    @property
    def artifacts(self) -> str | None:
        """Where a local store keeps artifacts; None where the server decides."""
        return None if self.folder is None else (self.folder / "artifacts").resolve().as_uri()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what a store that is away or of no use raises into one line."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingError(
                f"tracking.uri {self.uri!r} cannot be used ({reason}); start it or name another"
            ) from error

    def check(self) -> None:
        """Ask a server once whether it is there; any HTTP answer will do. MLflow itself would retry for minutes.

        Raises:
            OSError: If nobody answers.
        """
        if self.uri.startswith("http"):
            with suppress(HTTPError):
                urlopen(f"{self.uri.rstrip('/')}/health", timeout=_PROBE_SECONDS).close()

    def newest_fit(self, client: MlflowClient, experiment: str, run_name: str | None) -> Run | None:
        """The newest training run of an experiment, of any name or of one; None without any.

        Raises:
            SettingError: If the store does not answer.
        """
        with self.told():
            self.check()
            found = client.get_experiment_by_name(experiment)
            if found is None:
                return None
            wanted = "tags.stage = 'fit'"
            if run_name is not None:
                wanted += f" AND attributes.run_name = {_quoted(run_name)}"
            order = ["start_time DESC"]
            return next(iter(client.search_runs([found.experiment_id], wanted, order_by=order, max_results=1)), None)


def logged_config(client: MlflowClient, run_id: str) -> str | None:
    """The ``config.yaml`` that a run has logged; None if it did not come so far."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, "config.yaml", folder)).read_text()
    except (MlflowException, OSError):
        return None


def _quoted(name: str) -> str:
    """A name inside one of the quotes that MLflow's search knows; it knows no escapes."""
    return f'"{name}"' if "'" in name else f"'{name}'"
