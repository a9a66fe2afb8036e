"""Whole files: written beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from psn_lightning.errors import SettingError


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """Write a file so that a kill, a power cut or a full disk leaves the previous file unchanged.

    Missing folders are made.

    Args:
        path: File to write.

    Yields:
        Temporary path in the same folder, with the same suffix. It is renamed to ``path`` at the end of the block, and
        removed if the block raises.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield scratch
        put_in_place(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_all(file: IO[bytes], data: bytes | memoryview) -> int:
    """Write all bytes to an unbuffered file, which may accept only a part of them when the disk is nearly full.

    Args:
        file: Unbuffered file, open for writing.
        data: Bytes to write.

    Returns:
        Number of bytes.

    Raises:
        OSError: If the disk does not accept all bytes.
    """
    view = memoryview(data).cast("B")
    n = len(view)
    while view:
        view = view[file.write(view) :]
    return n


def not_written(what: str, folder: Path, error: OSError) -> SettingError:
    """Error for a file of a run that cannot be written.

    Args:
        what: Name and path of the file, the subject of the message.
        folder: Folder on the disk in question; it need not exist.
        error: Error of the write.

    Returns:
        Error whose message states the reason and the free space.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 2**20
    return SettingError(
        f"{what} cannot be written ({error.strerror}; {free} MiB are free): free some space, then resume the run from "
        "its last checkpoint"
    )


def put_in_place(new: Path, path: Path) -> None:
    """Rename a finished file to its place in the same folder, once it is on the disk.

    Args:
        new: Finished file.
        path: Place of the file; a file there is replaced.

    Raises:
        OSError: If the disk refuses.
    """
    with new.open("rb") as file:
        os.fsync(file.fileno())  # otherwise a power cut could keep the new name but lose the content
    new.replace(path)
