"""The outbox of a run on a server: an SQLite file that holds its operations until MLflow has them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import not_written
from psn_lightning.tracking.causes import disk_error, is_locked
from psn_lightning.tracking.writer import Kind

OUTBOXES = "outbox"
"""Folder of the outboxes below a store's home."""

_WAIT_SECONDS = 2.0  # a process that looks for the newest run holds an outbox for a moment
_TABLES = (
    "CREATE TABLE IF NOT EXISTS run (content TEXT)",
    "CREATE TABLE IF NOT EXISTS operations (id INTEGER PRIMARY KEY, kind TEXT, content TEXT, refused TEXT)",
)


@dataclass(frozen=True)
class QueuedRun:
    """The MLflow run that an outbox belongs to."""

    uri: str
    experiment: str
    run_id: str | None  # None until the run is created
    name: str | None  # None lets MLflow invent one
    tags: dict[str, str]  # to create the run with
    started: int  # milliseconds since 1970
    offline_id: str | None  # id until the run is created; None for one that began in the store


@dataclass(frozen=True)
class Operation:
    """An operation in an outbox: kind and arguments of a method of :class:`RunWriter`."""

    id: int
    kind: Kind
    content: dict[str, Any]


class BusyError(SettingError):
    """An outbox that another process uses."""


class Outbox:
    """A queue of operations on disk. One process at a time holds it, by a lock of SQLite's that a kill releases.

    Args:
        path: SQLite file; artifacts are copied to a folder of that name.
        run: Run of the outbox, if it is new; None to open one that exists.

    Raises:
        BusyError: If another process holds it.
        FileNotFoundError: If it does not exist.
        SettingError: If it is damaged or cannot be written.
    """

    def __init__(self, path: Path, run: QueuedRun | None = None) -> None:
        self.path = path
        self._files = path.with_suffix("")
        self._lock = threading.Lock()
        if run is None and not path.exists():
            raise FileNotFoundError(path)
        timeout = 0.0 if run is None else _WAIT_SECONDS
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # an address may contain a password
            self._database = sqlite3.connect(path, timeout, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._not_written(error if isinstance(error, OSError) else OSError(0, str(error))) from error
        try:
            for statement in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", *_TABLES):
                self._query(statement)
            if run is not None and not self._query("SELECT 1 FROM run"):
                self._query("INSERT INTO run VALUES (?)", json.dumps(dataclasses.asdict(run)))
            self._query("COMMIT")
            rows = self._query("SELECT content FROM run")
        except SettingError:
            self._database.close()
            raise
        if not rows:  # its process was killed while it created the file
            self.close()
            raise FileNotFoundError(path)
        self.run = QueuedRun(**json.loads(rows[0][0]))

    def put(self, kind: Kind, **content: Any) -> None:
        """Add an operation; it is on disk when this returns."""
        self._query("INSERT INTO operations (kind, content) VALUES (?, ?)", kind, json.dumps(content))

    def put_file(self, path: Path, folder: Path) -> None:
        """Add a file, as it is now, as an artifact in a relative folder."""
        self.put("artifact", file=self._keep(path), folder=folder.as_posix())

    def put_model(self, archive: Path, **content: Any) -> None:
        """Add a model, packed into a file, with the other arguments of :meth:`RunWriter.model`."""
        self.put("model", file=self._keep(archive), **content)

    def _keep(self, path: Path) -> str:
        """Copy a file, as it is now, and return its path among the files of the outbox."""
        try:
            self._files.mkdir(exist_ok=True)
            place = Path(tempfile.mkdtemp(dir=self._files))
            try:
                os.link(path.resolve(), place / path.name)  # checkpoints are large, and replaced rather than changed
            except OSError:
                shutil.copyfile(path, place / path.name)
        except OSError as error:
            raise self._not_written(error) from error
        return f"{place.name}/{path.name}"

    def first(self) -> Operation | None:
        """The oldest operation that was neither sent nor refused; None without one."""
        rows = self._query("SELECT id, kind, content FROM operations WHERE refused IS NULL ORDER BY id LIMIT 1")
        for number, kind, text in rows:
            content = json.loads(text)
            if "file" in content:
                content["file"] = str(self._files / content["file"])
            return Operation(number, kind, content)
        return None

    def remove(self, operation: Operation) -> None:
        """Remove an operation that was sent."""
        self._query("DELETE FROM operations WHERE id = ?", operation.id)

    def refuse(self, operation: Operation, reason: str) -> None:
        """Set an operation aside that the store refused; it stays in the file."""
        self._query("UPDATE operations SET refused = ? WHERE id = ?", reason, operation.id)

    def left(self) -> Counter[str]:
        """Number of entries to send of each kind: ``{"metrics": 12, "artifact": 1}``."""
        counts: Counter[str] = Counter()
        for kind, content in self._query("SELECT kind, content FROM operations WHERE refused IS NULL ORDER BY id"):
            counts[kind] += len(json.loads(content)["metrics"]) if kind == "metrics" else 1
        return counts

    def __len__(self) -> int:
        return int(self._query("SELECT COUNT(*) FROM operations WHERE refused IS NULL")[0][0])

    def set_run_id(self, run_id: str) -> None:
        """Record the run that the store has created."""
        self.run = dataclasses.replace(self.run, run_id=run_id)
        self._query("UPDATE run SET content = ?", json.dumps(dataclasses.asdict(self.run)))

    def close(self) -> None:
        """Release the outbox; delete it if the store has everything."""
        with self._lock, closing(self._database), suppress(sqlite3.Error):  # of a damaged file
            if not self._database.execute("SELECT 1 FROM operations LIMIT 1").fetchall():
                shutil.rmtree(self._files, ignore_errors=True)
                self.path.unlink(missing_ok=True)  # while the lock is held

    def _query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement, a transaction of its own, and return its rows."""
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if is_locked(error):
                raise BusyError(f"{self.path} belongs to a run that is under way, which sends it itself") from error
            disk = disk_error(error)
            if disk is not None:
                raise self._not_written(disk) from error
            raise SettingError(
                f"{self.path} is damaged or not an outbox ({in_one_line(error)}): look, then remove it"
            ) from error

    def _not_written(self, error: OSError) -> SettingError:
        return not_written(f"the outbox of the run, {self.path},", self.path, error)


def find_outboxes(home: Path) -> list[Path]:
    """Files of the outboxes below a store's home."""
    return sorted(home.glob(f"{OUTBOXES}/*.db"))
