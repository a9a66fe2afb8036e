"""The MLflow store that runs are recorded in: where it is, whether it answers, what it has."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from psn_lightning.errors import SettingError
from psn_lightning.tracking.processes import is_dead

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
URI_VARIABLE = "MLFLOW_TRACKING_URI"

PROCESS_TAG = "process"
"""Tag of a run: the process that it runs in, so that a run whose process was killed can be told from one that runs."""

KILLED_TAG = "killed"
"""Tag of a run that was ended on purpose, or whose process died: why."""

_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_PROBE_SECONDS = 5.0
_LOCK_SECONDS = 60.0  # for which another process may be at work on a local store's tables
_SQLITE = "sqlite:///"
_KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


class StoreAwayError(SettingError):
    """A store that does not answer."""


class Store:
    """A store by its address.

    Args:
        uri: MLflow store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.

    Raises:
        SettingError: If it is of a kind that MLflow does not take, or a server whose address holds a login.
    """

    def __init__(self, uri: str | None) -> None:
        uri = uri or os.environ.get(URI_VARIABLE) or DEFAULT_URI
        if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
            folder = uri.removeprefix("file:").removeprefix("//")
            raise SettingError(f"tracking.uri {uri!r}: MLflow 3 takes no folders; use {_SQLITE}{folder}/mlflow.db")
        if uri.split(":")[0].split("+")[0] not in _KINDS:
            raise SettingError(f"tracking.uri {without_password(uri)!r} is none of {', '.join(_KINDS)}")
        if uri.startswith("http") and "@" in urlsplit(uri).netloc:
            raise SettingError(
                f"tracking.uri {without_password(uri)!r}: a server's user and password do not go into its address, but "
                f"into {_LOGIN}"
            )
        self.uri = uri
        self.folder = Path(uri.removeprefix(_SQLITE)).parent if uri.startswith(_SQLITE) else None
        """Folder of a local store; None of a server."""
        # MLflow's client would try for minutes by itself; who waits here knows for how long.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

    @property
    def shown(self) -> str:
        """The address without its password."""
        return without_password(self.uri)

    @property
    def absolute(self) -> str:
        """MLflow remembers stores by their URI: a relative path would mean the first folder it was used in."""
        return self.uri if self.folder is None else f"{_SQLITE}{Path(self.uri.removeprefix(_SQLITE)).resolve()}"

    @property
    def artifacts(self) -> str | None:
        """Where a local store keeps artifacts; None where the server decides."""
        return None if self.folder is None else (self.folder / "artifacts").resolve().as_uri()

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; its first use connects to a database, and makes a local store's folder and tables.

        Raises:
            MlflowException: If it cannot be; likewise SQLAlchemyError and OSError.
        """
        self._make_folder()
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints tracebacks of what is told here
        return MlflowClient(self.absolute)

    def _make_folder(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever recorded in it, as far as can be told without making it."""
        return self.folder is not None and not Path(self.uri.removeprefix(_SQLITE)).exists()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what a store that is away or of no use raises into one line.

        Raises:
            StoreAwayError: If it is.
            SettingError: If its driver is not installed, or it knows no such user.
        """
        try:
            yield
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code == "UNAUTHENTICATED":
                raise SettingError(f"tracking.uri {self.shown!r} wants a login: give one in {_LOGIN}") from error
            reason = " ".join(str(error).split())[:200]
            kind = SettingError if isinstance(error, ImportError) else StoreAwayError
            raise kind(f"tracking.uri {self.shown!r} cannot be used ({reason}); start it or name another") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from making the same tables or experiment of a local store meanwhile.

        Raises:
            OSError: If another process takes longer than a minute.
        """
        if self.folder is None:
            yield
            return
        self._make_folder()
        deadline = time.monotonic() + _LOCK_SECONDS
        with (self.folder / ".lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise OSError(f"another process has had {file.name} for {_LOCK_SECONDS:g} seconds") from None
                    time.sleep(0.02)
            yield

    def check(self) -> None:
        """Ask a server once whether it is there; any HTTP answer will do.

        Raises:
            OSError: If nobody answers.
        """
        if self.uri.startswith("http"):
            with suppress(HTTPError):
                urlopen(f"{self.uri.rstrip('/')}/health", timeout=_PROBE_SECONDS).close()

    def newest_fit(self, experiment: str, run_name: str | None) -> Run | None:
        """The newest training run of an experiment, of any name or of one; None without any.

        Raises:
            StoreAwayError: If the store does not answer.
        """
        if self.is_new:
            return None
        with self.told():
            self.check()
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                return None
            wanted = "tags.stage = 'fit'"
            if run_name is not None:
                wanted += f" AND attributes.run_name = {_quoted(run_name)}"
            order = ["start_time DESC"]
            return next(
                iter(self.client.search_runs([found.experiment_id], wanted, order_by=order, max_results=1)), None
            )

    def mark_killed(self, experiments: Sequence[str]) -> None:
        """Have runs be KILLED that say they run, but whose process on this machine is gone.

        Args:
            experiments: Ids of the experiments to look at.
        """
        running = f"attributes.status = 'RUNNING' AND tags.{PROCESS_TAG} LIKE '{{%'"
        for run in self.client.search_runs(list(experiments), running):
            process = json.loads(run.data.tags[PROCESS_TAG])
            if is_dead(process):
                reason = f"process {process['pid']} died in the middle of it (kill -9, power cut); see --ckpt_path last"
                self.client.set_tag(run.info.run_id, KILLED_TAG, reason)
                self.client.set_terminated(run.info.run_id, "KILLED")


def logged_config(client: MlflowClient, run_id: str) -> str | None:
    """The ``config.yaml`` that a run has logged; None if it did not come so far."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, "config.yaml", folder)).read_text()
    except (MlflowException, OSError):
        return None


def without_password(url: str) -> str:
    """A store's address as it may be shown and logged."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return f"{url.split('://')[0]}://…" if "://" in url else url
    if "password" in parsed.query:
        parsed = parsed.update_query_dict({"password": "***"})
    return parsed.render_as_string(hide_password=True)


def _quoted(name: str) -> str:
    """A name inside one of the quotes that MLflow's search knows; it knows no escapes."""
    return f'"{name}"' if "'" in name else f"'{name}'"
