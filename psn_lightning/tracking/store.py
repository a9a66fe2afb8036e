"""The MLflow store that runs are recorded in: where it is, whether it answers, what it has."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_info
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.tracking.address import DEFAULT_URI, LOGIN, SQLITE, URI_VARIABLE, check_address, without_password
from psn_lightning.tracking.processes import as_process, is_dead

PROCESS_TAG = "process"
"""Tag of a run: the process that it runs in, so that a run whose process was killed can be told from one that runs."""

STAGE_TAG = "stage"
"""Tag of a run: the command that made it."""

KILLED_TAG = "killed"
"""Tag of a run that was ended on purpose, or whose process died: why."""

_PROBE_SECONDS = 5.0
_LOCK_SECONDS = 60.0  # for which another process may be at work on a local store's tables
_PAUSE_SECONDS = 5.0
_HEADER = b"SQLite format 3\0"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
_T = TypeVar("_T")


class StoreAwayError(SettingError):
    """A store that does not answer."""


class Store:
    """A store by its address.

    Args:
        uri: MLflow store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.

    Raises:
        SettingError: If it is of a kind that MLflow does not take, no address, or one that holds a server's login.
    """

    def __init__(self, uri: str | None) -> None:
        uri = uri or os.environ.get(URI_VARIABLE) or DEFAULT_URI
        check_address(uri)
        self.uri = uri
        self.file = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
        """Of a local store; None of a server."""
        self.folder = self.file and self.file.parent
        """The file's."""
        # MLflow's client would try for minutes by itself; who waits here knows for how long.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

    @property
    def shown(self) -> str:
        """The address without its password."""
        return without_password(self.uri)

    @property
    def absolute(self) -> str:
        """MLflow remembers stores by their URI: a relative path would mean the first folder it was used in."""
        return self.uri if self.file is None else f"{SQLITE}{self.file.resolve()}"

    @property
    def home(self) -> Path:
        """Folder on this machine for checkpoints and the spool: the local store's, or what takes its place."""
        return self.folder or Path("mlruns")

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
        self._check_file()
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints tracebacks of what is told here
        if self.is_new:
            self._create_file()
        return MlflowClient(self.absolute)

    def _create_file(self) -> None:
        """Make a local store's tables in a file beside it, and rename that.

        MLflow makes them in some fifty migrations: a process killed among them would leave a store that opens never
        again.
        """
        assert self.file is not None
        with self.alone():
            if self.is_new:
                beside = self.file.with_name(f".{self.file.name}.new")
                beside.unlink(missing_ok=True)
                MlflowClient(f"{SQLITE}{beside.resolve()}").search_experiments(max_results=1)
                beside.rename(self.file)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever recorded in it, as far as can be told without making it."""
        return self.file is not None and not self.file.exists()

    def _check_file(self) -> None:
        """Refuse what MLflow would try to open for minutes.

        Raises:
            SettingError: If there is something else in the place of a local store's file.
        """
        if self.file is None or self.is_new:
            return
        if not self.file.is_file():
            raise SettingError(f"tracking.uri {self.shown!r}: {self.file} is no file; name another")
        with self.file.open("rb") as file:
            if file.read(len(_HEADER)) not in (b"", _HEADER):
                raise SettingError(f"tracking.uri {self.shown!r}: {self.file} is no SQLite database; name another")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what a store that is away or of no use raises into one line.

        Raises:
            StoreAwayError: If it is.
            SettingError: If its driver is not installed, it knows no such user, or refuses what it is asked for.
        """
        try:
            yield
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code == "UNAUTHENTICATED":
                raise SettingError(f"tracking.uri {self.shown!r} wants a login: give one in {LOGIN}") from error
            final = isinstance(error, ImportError) or self.has_refused(error)
            raise (SettingError if final else StoreAwayError)(
                f"tracking.uri {self.shown!r} cannot be used ({in_one_line(error)}); start it or name another"
            ) from error

    def has_refused(self, error: Exception) -> bool:
        """Whether an error is the store's own answer to something that cannot be, however often it is tried."""
        if self.is_server and not isinstance(error, RestException):
            return False  # what stands before the server may say 400 or 404 of its own while that is away
        return isinstance(error, MlflowException) and error.error_code in _REFUSALS

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from making the same tables or experiment of a local store meanwhile.

        Raises:
            OSError: If another process takes longer than a minute.
        """
        if self.folder is None:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
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

    @property
    def is_server(self) -> bool:
        """Whether it is reached by HTTP."""
        return self.uri.startswith("http")

    def check(self) -> None:
        """Ask a server once whether it is there; any HTTP answer will do. Of a local store look at its file.

        Raises:
            OSError: If nobody answers, or somebody who is no HTTP server.
            SettingError: If the file is no database.
        """
        self._check_file()
        if self.is_server:
            login = get_default_host_creds(self.uri)
            try:
                http_request(login, "/health", "GET", max_retries=0, timeout=_PROBE_SECONDS).close()
            except MlflowException as error:
                first: BaseException = error
                while (cause := first.__cause__ or first.__context__) is not None:
                    first = cause
                raise OSError(str(first)) from error  # the libraries between wrap it five times

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
            wanted = f"tags.{STAGE_TAG} = 'fit'"
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
            process = as_process(run.data.tags[PROCESS_TAG])
            if process is not None and is_dead(process):
                reason = f"process {process['pid']} died in the middle of it (kill -9, power cut); see --ckpt_path last"
                self.client.set_tag(run.info.run_id, KILLED_TAG, reason)
                self.client.set_terminated(run.info.run_id, "KILLED")


def patiently(act: Callable[[], _T], seconds: float) -> _T:
    """Do something that a store is needed for; where it is away, again and again.

    Args:
        act: It. What it did before the store went away must not be in the way of its doing it again.
        seconds: For so long.

    Raises:
        StoreAwayError: If the store has been away all the time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except StoreAwayError as error:
            if time.monotonic() > deadline:
                raise
            rank_zero_info(f"{error}. Tried again for {deadline - time.monotonic():.0f} seconds")
            time.sleep(_PAUSE_SECONDS)


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
