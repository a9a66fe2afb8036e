"""Downloads of which nobody ever sees a part, one at a time for each folder."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from psn_lightning.data.digests import write_sums
from psn_lightning.data.sources import find
from psn_lightning.errors import SettingError, in_one_line

_LOCK = ".lock"
_SCRATCH = ".download-"
_PATIENCE = 3600.0  # seconds; EMNIST's 560 MB over a slow line
_PAUSE = 0.2


def fetch_into(target: Path, names: Sequence[str], fetch: Callable[[Path], Path], what: str) -> None:
    """Download beside ``target`` and move the finished files in, each in one atomic step.

    Of several processes that find nothing, one downloads; the others wait and take what it has fetched.

    Args:
        target: Folder that shall hold the files; made if it is not there.
        names: Files to keep, plain or with ``.gz``.
        fetch: Downloads into the scratch folder it is given, verifies checksums, returns the folder of the files.
        what: Name of the data set, for errors.

    Raises:
        SettingError: If nothing could be fetched, nothing written, or another process takes too long.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target, what):
            if find([target], names) is not None:
                return  # it came while this process waited
            for leftover in target.glob(f"{_SCRATCH}*"):
                shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed: the lock is ours
            with tempfile.TemporaryDirectory(dir=target, prefix=_SCRATCH) as scratch:
                found = find([fetch(Path(scratch))], names)
                if found is None:
                    raise SettingError(f"the download of {what} lacks some of {', '.join(names)}; try again later")
                write_sums(target, found.files)  # first, so that a mixture with older files is noticed
                for path in found.files:
                    path.replace(target / path.name)
    except SettingError:
        raise
    except (OSError, RuntimeError, ValueError, EOFError, HTTPException, zipfile.BadZipFile, zlib.error) as error:
        reason = in_one_line(error)
        raise SettingError(
            f"{what} could not be downloaded to {target} ({reason}); "
            f"put {', '.join(names)} there by hand, or point PSN_DATA_DIR to a folder that has them"
        ) from error


@contextmanager
def _alone(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when a process ends, however it ends."""
    with (folder / _LOCK).open("a") as file:
        begin = time.monotonic()
        told = False
        while not _locked(file.fileno()):
            if time.monotonic() - begin > _PATIENCE:
                raise SettingError(
                    f"another process has been downloading {what} to {folder} for more than {_PATIENCE:g} seconds; "
                    f"end it, or wait for it, and start again"
                )
            if not told:
                rank_zero_info(f"Waiting for another process that is downloading {what} to {folder}")
                told = True
            time.sleep(_PAUSE)
        yield


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
