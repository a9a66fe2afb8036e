"""Where data sets are looked for, and what exactly was found."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psn_lightning.data.reading import opened
from psn_lightning.errors import SettingError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """The files of one data set in one folder."""

    files: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.files[0].parent

    def digests(self) -> tuple[str, tuple[str, ...]]:
        """SHA-256 over all files' unpacked bytes, in order, and of each file's: the same, gzipped or not.

        To be called on files that could be loaded: what they unpack to is not bounded here.

        Raises:
            SettingError: If a file cannot be read.
        """
        whole, each = hashlib.sha256(), []
        for path in self.files:
            one = hashlib.sha256()
            with opened(path) as file:
                while block := file.read(_BLOCK):
                    whole.update(block)
                    one.update(block)
            each.append(one.hexdigest())
        return whole.hexdigest(), tuple(each)


def search_roots(data_dir: str | Path | None) -> list[Path]:
    """Folders to look in, first to last: ``data_dir``, ``PSN_DATA_DIR``, ``~/.cache/psn_lightning``.

    Raises:
        SettingError: If one of them can be no folder.
    """
    variable = "PSN_DATA_DIR"
    named = {"data_dir": data_dir, variable: os.environ.get(variable), "HOME": "~/.cache/psn_lightning"}
    return [_folder(setting, name) for setting, name in named.items() if name]


def _folder(setting: str, name: str | Path) -> Path:
    try:
        folder = Path(name).expanduser()
        with suppress(OSError):  # whether there is one is asked later, and of each file
            folder.stat()
    except (RuntimeError, ValueError) as error:  # a user that there is not; a character that no name has
        raise SettingError(f"{setting} {str(name)!r} cannot be a folder ({error}): name another") from error
    return folder


def find(folders: Sequence[Path], names: Sequence[str]) -> Source | None:
    """First folder that has every file, plain or with ``.gz``; None if there is none.

    Raises:
        SettingError: If something is in a file's place that cannot be read as one.
    """
    for folder in folders:
        files = [next((p for p in (folder / name, folder / f"{name}.gz") if is_there(p)), None) for name in names]
        if all(files):
            return Source(tuple(path for path in files if path))
    return None


def is_there(path: Path) -> bool:
    """Whether there is such a file.

    Raises:
        SettingError: If that cannot be told, or it is something else: a folder, a link to nothing.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise SettingError(f"{path} is a link to nothing; remove it, or put the file in its place") from None
        return False
    except OSError as error:
        raise SettingError(
            f"{path} cannot be read: {error.strerror}; check links and permissions, or name another data folder"
        ) from error
    if not stat.S_ISREG(mode):
        raise SettingError(f"{path} is not a file but a folder or a device; remove it, or put the file in its place")
    return True
