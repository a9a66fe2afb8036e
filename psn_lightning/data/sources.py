"""Search for the files of a data set, and their digests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch

from psn_lightning.data.reading import open_file
from psn_lightning.errors import SettingError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """Files of one data set, all in one folder.

    Args:
        files: Paths, in the order of the data set's ``names``.
    """

    files: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.files[0].parent

    def digests(self) -> tuple[str, tuple[str, ...]]:
        """SHA-256 over the unpacked bytes of all files in order, and of each file.

        Plain and gzipped files have the same digest. Call it on files that were read before: the size is not bounded.

        Raises:
            SettingError: If a file cannot be read.
        """
        whole, each = hashlib.sha256(), []
        for path in self.files:
            one = hashlib.sha256()
            with open_file(path) as file:
                while block := file.read(_BLOCK):
                    whole.update(block)
                    one.update(block)
            each.append(one.hexdigest())
        return whole.hexdigest(), tuple(each)


def search_roots(data_dir: str | None) -> list[Path]:
    """Folders to search, first to last: ``data_dir``, ``PSN_DATA_DIR``, the user's cache (``~/.cache/psn_lightning``).

    Raises:
        SettingError: If ``data_dir`` or ``PSN_DATA_DIR`` cannot be a folder.
    """
    roots = []
    for setting, name in (("data_dir", data_dir), ("PSN_DATA_DIR", os.environ.get("PSN_DATA_DIR"))):
        try:
            if name:
                roots.append(Path(name).expanduser())
                os.access(roots[-1], os.F_OK)  # refuses characters that no file name has
        except (RuntimeError, ValueError) as error:
            raise SettingError(f"{setting} {name!r} cannot be a folder ({error}): name another folder") from error
    return [*roots, pooch.os_cache("psn_lightning")]


def find(folders: Sequence[Path], names: Sequence[str]) -> Source | None:
    """Find the first folder that has every file, plain or with ``.gz``; None if there is none.

    Raises:
        SettingError: If a path with the name of a file is not a readable file.
    """
    for folder in folders:
        files = [next((p for p in (folder / name, folder / f"{name}.gz") if _is_file(p)), None) for name in names]
        if all(files):
            return Source(tuple(path for path in files if path))
    return None


def _is_file(path: Path) -> bool:
    try:
        reason = "" if stat.S_ISREG(path.stat().st_mode) else "a folder or a device"
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return False
        reason = "a broken link"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise SettingError(f"{path} is not a readable file ({reason}): remove it, or name another data folder")
    return True
