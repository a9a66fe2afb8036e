"""Whether files are still what was downloaded, and what was published."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from psn_lightning.data.reading import opened, read_at_most
from psn_lightning.data.sources import Source, is_there
from psn_lightning.errors import SettingError
from psn_lightning.files import atomically

SUMS = "SHA256SUMS"
"""Beside downloaded files: their digests as they lie, packed or not, so that ``sha256sum -c`` reads it, too."""

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_LONGEST = 1 << 20


def write_sums(folder: Path, files: Sequence[Path]) -> None:
    """Write what :func:`verify_sums` will ask for.

    Args:
        folder: Where the files will lie; lines about other files there are kept.
        files: The files, wherever they are now.

    Raises:
        SettingError: If a file cannot be read, or the folder's present list cannot.
    """
    sums = _sums(folder) | {path.name: _as_it_lies(path) for path in files}
    with atomically(folder / SUMS) as scratch:
        scratch.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")


def verify_sums(source: Source) -> None:
    """Compare files with the digests beside them, if there are any; nothing is unpacked for it.

    Raises:
        SettingError: If a file has another digest or none, or the list is damaged.
    """
    sums = _sums(source.folder)
    for path in source.files if sums else ():
        if path.name not in sums:
            raise SettingError(
                f"{path} is not listed in {SUMS} beside it; fetch the files again, "
                f"or delete {SUMS} if it is no longer true"
            )
        if (found := _as_it_lies(path)) != sums[path.name]:
            raise SettingError(
                f"{path} is damaged or was tampered with: SHA-256 {found}, but {SUMS} beside it says "
                f"{sums[path.name]}; delete it and fetch it again"
            )


def verify_official(source: Source, found: Sequence[str], official: Sequence[str]) -> None:
    """Compare the digests of unpacked files with those of the published ones, if these are known.

    Args:
        source: The files.
        found: Digest of each, see :meth:`Source.digests`.
        official: Digest that each should have; empty where nobody knows.

    Raises:
        SettingError: If a file differs.
    """
    for path, digest, expected in zip(source.files, found, official, strict=False):
        if digest != expected:
            raise SettingError(
                f"{path} is damaged or was tampered with: there are as many rows as published, but SHA-256 is "
                f"{digest} instead of {expected}; delete it and fetch it again"
            )


def _sums(folder: Path) -> dict[str, str]:
    """Digest by file name; empty without a list."""
    path = folder / SUMS
    if not is_there(path):
        return {}
    with opened(path) as file:
        lines = read_at_most(file, _LONGEST).decode(errors="replace").splitlines()
    found = [_LINE.fullmatch(line) for line in lines if line.strip()]
    if not found or not all(found):
        raise SettingError(f"{path} is not a list of sha256sum; delete it, and fetch the files again if in doubt")
    return {match[2]: match[1].lower() for match in found if match}


def _as_it_lies(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}; fetch it again") from error
