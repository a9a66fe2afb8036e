"""What a run logs, on disk until it is in MLflow."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from psn_lightning.errors import SettingError
from psn_lightning.files import atomically, write_all

Operation = dict[str, Any]
"""What is to be done to a run: ``{"do": "metrics", "metrics": [[key, value, milliseconds, step], …]}``."""

_RUN, _OPERATIONS, _DELIVERED, _FILES = "run.json", "operations.jsonl", "delivered", "files"


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
        OSError: If it cannot be written.
    """

    def __init__(self, folder: Path, run: SpooledRun | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the store's address may hold a password
        self._file: IO[bytes] = (folder / _OPERATIONS).open("ab+", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise BusyError(f"{folder} belongs to a run that is under way: it sends by itself what is in it") from error
        try:
            self._run = whose(folder) if run is None or (folder / _RUN).exists() else self._write_run(run)
            self.delivered = self._read_delivered()
        except (OSError, ValueError, TypeError) as error:
            self._file.close()
            raise SettingError(f"{folder} is no spool of a run, or damaged ({error}): look, then remove it") from error
        self._end = self._whole_lines()

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

        Raises:
            OSError: If the disk does not take them.
        """
        place = self.folder / _FILES / str(self._end)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
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
        if not name.isdecimal():
            raise ValueError(f"{name!r} is no folder of {self.folder / _FILES}")
        return self.folder / _FILES / name

    def pending(self) -> Iterator[tuple[Operation, int]]:
        """What the store does not have yet, each with the position behind it, to be given to :meth:`mark`."""
        position = self.delivered
        with (self.folder / _OPERATIONS).open("rb") as file:
            file.seek(position)
            while position < self._end:
                line = file.readline()
                position += len(line)
                yield json.loads(line), position

    def mark(self, position: int) -> None:
        """Remember that the store has everything up to here."""
        with atomically(self.folder / _DELIVERED) as scratch:
            scratch.write_text(str(position))
        self.delivered = position

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
            remove: Whether the folder goes, too.
        """
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._file.close()

    def _write_run(self, run: SpooledRun) -> SpooledRun:
        with atomically(self.folder / _RUN) as scratch:
            scratch.write_text(json.dumps(dataclasses.asdict(run)))
        self._run = run
        return run

    def _read_delivered(self) -> int:
        path = self.folder / _DELIVERED
        return int(path.read_text()) if path.exists() else 0

    def _whole_lines(self) -> int:
        """Where the last whole line ends; one that a kill has cut counts for nothing, and goes."""
        content = (self.folder / _OPERATIONS).read_bytes()
        end = content.rfind(b"\n") + 1
        os.ftruncate(self._file.fileno(), end)
        return end


def whose(folder: Path) -> SpooledRun:
    """The run of a spool, which may be under way.

    Raises:
        OSError: If it cannot be read; ValueError or TypeError: if it is damaged.
    """
    return SpooledRun(**json.loads((folder / _RUN).read_text()))


def spools(folder: Path) -> list[Path]:
    """The spools below a store's folder, oldest first."""
    found = [path.parent for path in folder.glob(f"spool/*/{_RUN}")]
    return sorted(found, key=lambda path: path.stat().st_ctime)
