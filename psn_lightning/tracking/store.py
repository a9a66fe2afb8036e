"""An MLflow store: a local database, or a server; whether it answers, and its runs."""

from __future__ import annotations

import os
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
from sqlalchemy.exc import SQLAlchemyError

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.tracking.address import DEFAULT_URI, LOGIN, SQLITE, URI_VARIABLE, check_address, without_password
from psn_lightning.tracking.causes import root_cause
from psn_lightning.tracking.local_database import check_file, create_file
from psn_lightning.tracking.mlflow_private import ping, silence_database_log
from psn_lightning.tracking.processes import is_dead, parse_identity

PROCESS_TAG = "process"
"""Tag of a run: identity of its process. It tells a killed run from one that still runs."""

STAGE_TAG = "stage"
"""Tag of a run: command that started it."""

KILLED_TAG = "killed"
"""Tag of a run that was stopped on purpose or whose process died: reason."""

_PING_SECONDS = 5.0
_PAUSE_SECONDS = 5.0
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
_T = TypeVar("_T")


class StoreAwayError(SettingError):
    """A store that does not answer."""


class Store:
    """An MLflow store.

    Args:
        uri: Address of a store or server; None: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlruns/mlflow.db``.

    Raises:
        SettingError: If MLflow cannot use the address, or it contains a server's login.
    """

    def __init__(self, uri: str | None) -> None:
        uri = uri or os.environ.get(URI_VARIABLE) or DEFAULT_URI
        check_address(uri)
        self.uri = uri
        self.file = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
        """Database file of a local store; None for a server."""
        self.folder = self.file and self.file.parent
        """Folder of that file."""

    @property
    def shown(self) -> str:
        """Address without its password."""
        return without_password(self.uri)

    @property
    def home(self) -> Path:
        """Folder of checkpoints and outboxes: the local store's, or ``mlruns``."""
        return self.folder or Path("mlruns")

    @property
    def artifacts(self) -> str | None:
        """Address of a local store's artifacts; None for a server, which decides itself."""
        return None if self.folder is None else (self.folder / "artifacts").resolve().as_uri()

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; its first use connects to a database and creates a local store.

        Raises:
            MlflowException: If the connection fails; likewise SQLAlchemyError and OSError.
        """
        silence_database_log()
        if self.file is None:
            return MlflowClient(self.uri)
        check_file(self.file)
        create_file(self.file)
        return MlflowClient(f"{SQLITE}{self.file.resolve()}")  # MLflow keeps what it knows of a store by its address

    @property
    def is_new(self) -> bool:
        """Whether this is a local store that has not been created."""
        return self.file is not None and not self.file.exists()

    @property
    def is_server(self) -> bool:
        """Whether the store is reached over HTTP."""
        return self.uri.startswith("http")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn errors of MLflow into errors for the user.

        Raises:
            StoreAwayError: If the store does not answer.
            SettingError: If its driver is not installed, or it refuses the login or the request.
        """
        try:
            yield
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code == "UNAUTHENTICATED":
                raise SettingError(f"tracking.uri {self.shown!r} wants a login: give one in {LOGIN}") from error
            final = isinstance(error, ImportError) or self.has_refused(error)
            if final and isinstance(error, MlflowException):
                raise SettingError(
                    f"tracking.uri {self.shown!r} refuses a request: {in_one_line(root_cause(error))}"
                ) from error
            raise (SettingError if final else StoreAwayError)(
                f"tracking.uri {self.shown!r} cannot be used ({in_one_line(root_cause(error))}): start it or name "
                "another store"
            ) from error

    def has_refused(self, error: Exception) -> bool:
        """Whether an error is the store's own answer to a request that can never succeed."""
        if self.is_server and not isinstance(error, RestException):
            return False  # a proxy before the server may answer 400 or 404 while the server is away
        return isinstance(error, MlflowException) and error.error_code in _REFUSALS

    def check(self) -> None:
        """Ping a server, or look at a local store's file.

        Raises:
            OSError: If a server does not answer in HTTP.
            SettingError: If the file is not a database.
        """
        if self.file is not None:
            check_file(self.file)
        if self.is_server:
            ping(self.uri, _PING_SECONDS)

    def newest_fit(self, experiment: str, run_name: str | None) -> Run | None:
        """Find the newest training run of an experiment.

        Args:
            experiment: Name of the experiment.
            run_name: Name of the run; None for any.

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
            condition = f"tags.{STAGE_TAG} = 'fit'"
            if run_name is not None:
                quote = '"' if "'" in run_name else "'"  # MLflow's search has no escapes
                condition += f" AND attributes.run_name = {quote}{run_name}{quote}"
            order = ["start_time DESC"]
            runs = self.client.search_runs([found.experiment_id], condition, order_by=order, max_results=1)
            return next(iter(runs), None)

    def mark_killed(self, experiments: Sequence[str]) -> None:
        """Set runs of experiments, given by id, to KILLED that are RUNNING but whose process here has died."""
        running = f"attributes.status = 'RUNNING' AND tags.{PROCESS_TAG} LIKE '{{%'"
        for run in self.client.search_runs(list(experiments), running):
            process = parse_identity(run.data.tags[PROCESS_TAG])
            if process is not None and is_dead(process):
                reason = f"process {process['pid']} died during the run (kill -9, power cut)"
                self.client.set_tag(run.info.run_id, KILLED_TAG, reason)
                self.client.set_terminated(run.info.run_id, "KILLED")


def patiently(act: Callable[[], _T], seconds: float) -> _T:
    """Retry an action while the store is away.

    Args:
        act: Action, which may be repeated after it failed halfway.
        seconds: Time limit.

    Raises:
        StoreAwayError: If the store is away until the time limit.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except StoreAwayError as error:
            if time.monotonic() > deadline:
                raise
            rank_zero_info(f"{error}. Retrying for {deadline - time.monotonic():.0f} seconds")
            time.sleep(_PAUSE_SECONDS)
