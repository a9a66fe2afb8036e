"""Files that are whole or not there: written beside their place, then renamed."""

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
    """Write a file so that a kill, a power cut or a full disk leaves the previous one as it was.

    The folder is made if it is not there.

    Args:
        path: The file.

    Yields:
        A path beside it, with the same suffix, to write to; it takes the place of ``path`` once the block has
        ended without an exception, and is removed otherwise.

    Raises:
        OSError: If it cannot be written.
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
    """Write to an unbuffered file, which on a disk that is nearly full takes a part and says so only by the number.

    Returns:
        Number of bytes.

    Raises:
        OSError: If the disk does not take all of it.
    """
    view = memoryview(data).cast("B")
    n = len(view)
    while view:
        view = view[file.write(view) :]
    return n


def not_written(what: str, folder: Path, error: OSError) -> SettingError:
    """What is told where the disk does not take something of a run.

    Args:
        what: It, and where it was to go.
        folder: On that disk; it need not be there.
        error: What the disk said.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free // 2**20
    return SettingError(
        f"{what} cannot be written ({error.strerror}; {free} MiB are free): make room, then go on with --ckpt_path last"
    )


def put_in_place(new: Path, path: Path) -> None:
    """Have a finished file take the place of another in the same folder.

    Raises:
        OSError: If the disk does not take it.
    """
    with new.open("rb") as file:
        os.fsync(file.fileno())  # else the name could outlive a power cut, and the content not
    new.replace(path)
