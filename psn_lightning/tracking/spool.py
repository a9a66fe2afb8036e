"""What a run logs, on disk until it is in MLflow."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import atomically, write_all

Operation = dict[str, Any]
"""What is to be done to a run: ``{"do": "metrics", "metrics": [[key, value, milliseconds, step], …]}``."""

_RUN, _OPERATIONS, _DELIVERED, _FILES = "run.json", "operations.jsonl", "delivered", "files"
_REFUSED = "refused.jsonl"


@dataclass(frozen=True)
class SpooledRun:
    """The MLflow run that a spool belongs to."""

    uri: str
    """The store's address."""
    experiment: str
    """Name."""
    run_id: str | None
    """None as long as the store has not made the run."""
    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    """Those that the run begins with."""
    started: int = 0
    """Milliseconds since 1970."""
    offline_id: str | None = None
    """Its name in the meantime, where it began without the store; afterwards its tag ``offline_id``."""


class BusyError(SettingError):
    """Another process is at work on a spool."""


class Spool:
    """Operations in their order, and how many of them the store has.

    Every operation may be done twice with the effect of once, so that one whose answer was lost is simply repeated.
    One process at a time has a spool; a kill gives it free.

    Args:
        folder: Where it is, or is to be.
        run: Whose it is; None: one that exists.

    Raises:
        BusyError: If another process has it.
        SettingError: If it is damaged.
        OSError: If it cannot be written; FileNotFoundError: if it is to exist and does not.
    """

    def __init__(self, folder: Path, run: SpooledRun | None = None) -> None:
        self.folder = folder
        if run is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the store's address may hold a password
        self._file: IO[bytes] = (folder / _OPERATIONS).open("ab+", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise BusyError(f"{folder} belongs to a run that is under way: it sends by itself what is in it") from error
        try:
            self._run = whose(folder) if run is None or (folder / _RUN).exists() else self._write_run(run)
            self._end = self._whole_lines()
            self.delivered = self._read_delivered()
        except (OSError, ValueError, TypeError) as error:
            self._file.close()
            raise self.damaged(error) from error

    @property
    def run(self) -> SpooledRun:
        """Whose it is."""
        return self._run

    def exists_as(self, run_id: str) -> None:
        """Remember the run that the store has made."""
        self._write_run(dataclasses.replace(self._run, run_id=run_id))

    def append(self, operation: Operation) -> None:
        """Add an operation; it is on the disk when this returns.

        Raises:
            OSError: If the disk does not take it.
        """
        line = json.dumps(operation).encode() + b"\n"
        try:
            write_all(self._file, line)
            os.fsync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), self._end)
            raise
        self._end += len(line)

    def add_files(self, folder: Path) -> None:
        """Add the files of a folder, and what links in it point to, as artifacts of the same relative path.

        Each is an operation of its own: that one has arrived is progress.

        Raises:
            OSError: If the disk does not take them.
        """
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = self.folder / _FILES / str(self._end)
            target = place / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                os.link(path.resolve(), target)  # checkpoints are large, and replaced rather than written to
            except OSError:
                shutil.copyfile(path, target)
            self.append({"do": "artifacts", "folder": place.name})

    def files_of(self, operation: Operation) -> Path:
        """Folder of an operation's artifacts.

        Raises:
            ValueError: If it is not in this spool: somebody has tampered with it.
        """
        name = str(operation["folder"])
        folder = self.folder / _FILES / name
        if not (name.isascii() and name.isdecimal() and folder.is_dir()):
            raise ValueError(f"{name!r} is no folder of {self.folder / _FILES}")
        links = [path for path in (self.folder / _FILES, folder, *folder.rglob("*")) if path.is_symlink()]
        if links:
            raise ValueError(f"{links[0]} is a link, which could lead anywhere")
        return folder

    def pending(self) -> Iterator[tuple[Operation, int]]:
        """What the store does not have yet, each with the position behind it, to be given to :meth:`mark`.

        Raises:
            SettingError: If it is damaged.
        """
        position = self.delivered
        with (self.folder / _OPERATIONS).open("rb") as file:
            file.seek(position)
            while position < self._end:
                line = file.readline()
                position += len(line)
                try:
                    operation = json.loads(line)
                except ValueError as error:
                    raise self.damaged(error) from error
                yield operation, position

    def mark(self, position: int) -> None:
        """Remember that the store has everything up to here."""
        with atomically(self.folder / _DELIVERED) as scratch:
            scratch.write_text(str(position))
        self.delivered = position

    @property
    def refused(self) -> Path:
        """File of what the store has refused, each with its reason; it is there if there is anything."""
        return self.folder / _REFUSED

    def put_aside(self, operation: Operation, reason: str) -> None:
        """Keep an operation that the store has refused, and the spool with it.

        Raises:
            OSError: If the disk does not take it.
        """
        with self.refused.open("ab", buffering=0) as file:
            write_all(file, json.dumps({**operation, "reason": reason}).encode() + b"\n")

    @property
    def empty(self) -> bool:
        """Whether the store has everything."""
        return self.delivered == self._end

    def left(self) -> Mapping[str, int]:
        """How much of each kind the store does not have: ``{"metrics": 12, "artifacts": 1}``."""
        counts: dict[str, int] = {}
        for operation, _ in self.pending():
            kind = operation["do"]
            counts[kind] = counts.get(kind, 0) + len(operation.get("metrics", [None]))
        return counts

    def close(self, remove: bool = False) -> None:
        """Give it free.

        Args:
            remove: Whether the folder goes, too, if nothing was refused.
        """
        if remove and not self.refused.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        self._file.close()

    def _write_run(self, run: SpooledRun) -> SpooledRun:
        with atomically(self.folder / _RUN) as scratch:
            scratch.write_text(json.dumps(dataclasses.asdict(run)))
        self._run = run
        return run

    def damaged(self, error: Exception) -> SettingError:
        """What is told of a spool that cannot be read."""
        return SettingError(
            f"{self.folder} is no spool of a run, or damaged ({in_one_line(error)}): look, then remove it"
        )

    def _read_delivered(self) -> int:
        path = self.folder / _DELIVERED
        delivered = int(path.read_text()) if path.exists() else 0
        before = os.pread(self._file.fileno(), 1, delivered - 1) if 0 < delivered <= self._end else b""
        if delivered and before != b"\n":
            raise ValueError(f"{delivered} bytes of {self._end} are delivered")
        return delivered

    def _whole_lines(self) -> int:
        """Where the last whole line ends; one that a kill has cut counts for nothing, and goes."""
        content = (self.folder / _OPERATIONS).read_bytes()
        end = content.rfind(b"\n") + 1
        os.ftruncate(self._file.fileno(), end)
        return end


def check_id(run_id: object) -> None:
    """Refuse what is no run's id: folders are named by it.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(run_id, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]{0,63}", run_id, re.ASCII):
        raise ValueError(f"{str(run_id)[:40]!r} is no id of a run")


def whose(folder: Path) -> SpooledRun:
    """The run of a spool, which may be under way.

    Raises:
        OSError: If it cannot be read; ValueError or TypeError: if it is damaged.
    """
    run = SpooledRun(**json.loads((folder / _RUN).read_text()))
    if not isinstance(run.uri, str) or not isinstance(run.experiment, str) or not isinstance(run.tags, dict):
        raise TypeError(f"{folder / _RUN} names no store, experiment or tags")
    return run


def spools(folder: Path) -> list[Path]:
    """The spools below a store's folder, oldest first."""
    found = {}
    for path in folder.glob(f"spool/*/{_RUN}"):
        with suppress(FileNotFoundError):  # its run has just sent it
            found[path.parent] = path.parent.stat().st_ctime
    return sorted(found, key=lambda path: found[path])
