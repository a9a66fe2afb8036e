"""The SQLite file of a local MLflow store: checked, created whole, and locked."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from psn_lightning.errors import SettingError
from psn_lightning.tracking.address import SQLITE

_HEADER = b"SQLite format 3\0"
_LOCK_SECONDS = 60.0  # other processes may create the tables first


def check_file(path: Path) -> None:
    """Refuse a file that MLflow would try to open for minutes.

    Raises:
        SettingError: If the path exists and is not an SQLite database.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise SettingError(f"tracking.uri '{SQLITE}{path}': {path} is not a file; name another")
    with path.open("rb") as file:
        if file.read(len(_HEADER)) not in (b"", _HEADER):
            raise SettingError(f"tracking.uri '{SQLITE}{path}': {path} is not an SQLite database; name another")


def create_file(path: Path) -> None:
    """Create a store with its tables in a file beside its place, and rename that.

    MLflow creates the tables in some fifty migrations: a process killed among them would leave a store that never opens
    again.

    Raises:
        MlflowException: If MLflow cannot create the tables; likewise SQLAlchemyError.
        OSError: If the file cannot be written.
    """
    if path.exists():
        return
    with lock_folder(path.parent):
        if not path.exists():
            scratch = path.with_name(f".{path.name}.new")
            scratch.unlink(missing_ok=True)
            MlflowClient(f"{SQLITE}{scratch.resolve()}").search_experiments(max_results=1)
            scratch.rename(path)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from creating the same tables or experiment of a local store.

    Raises:
        OSError: If another process holds the lock for a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_SECONDS
    with (folder / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError(f"another process has locked {file.name} for {_LOCK_SECONDS:g} seconds") from None
                time.sleep(0.02)
        yield
