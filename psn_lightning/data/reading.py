"""Reading files that nobody vouches for: unpacked on the fly, never without a bound, errors that name the file."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from psn_lightning.errors import SettingError

MOST = 1 << 30
"""Bytes that a file may have when unpacked: ten times the largest official one, EMNIST's training images."""

_LONGEST_LINE = 1 << 16
_BLOCK = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes; a name that ends in ``.gz`` is unpacked on the fly.

    Args:
        path: The file.

    Yields:
        The open file. Errors while it is read are told as :class:`SettingError`, too.

    Raises:
        SettingError: If it cannot be read, or is no complete gzip file.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]  # a GzipFile has all of it that is used
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SettingError(f"{path} is not a complete gzip file ({error}); delete it and fetch it again") from error
    except OSError as error:
        raise SettingError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions and its disk, or fetch it again"
        ) from error


def read_at_most(file: BinaryIO, limit: int) -> bytearray:
    """The next bytes of a file, at most ``limit``; takes no more memory than there are."""
    content = bytearray()
    while len(content) < limit and (block := file.read(min(_BLOCK, limit - len(content)))):
        content += block
    return content


class BoundedText(io.RawIOBase):
    """Lines of an open file for a parser that would take whatever comes.

    Args:
        file: The file, open for reading bytes.
        path: Its name, for errors.

    Raises:
        SettingError: While reading, once there are more than :data:`MOST` bytes or a line has no end.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._seen = self._line = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what io hands over
        """Fill a part of ``buffer`` and tell how much."""
        block = self._file.read(len(buffer))
        self._seen += len(block)
        end = block.rfind(b"\n")
        self._line = self._line + len(block) if end < 0 else len(block) - end - 1
        if self._seen > MOST or self._line > _LONGEST_LINE:
            what = f"more than {MOST} bytes" if self._seen > MOST else f"a line of more than {_LONGEST_LINE} bytes"
            raise SettingError(f"{self._path} has {what} when unpacked; delete it and fetch it again")
        buffer[: len(block)] = block
        return len(block)
