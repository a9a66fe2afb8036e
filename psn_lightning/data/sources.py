"""Where data sets are looked for, and what exactly was found."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from psn_lightning.errors import SettingError


@dataclass(frozen=True)
class Source:
    """The files of one data set in one folder."""

    files: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.files[0].parent

    def digest(self) -> str:
        """SHA-256 over the files' unpacked bytes, in order: the same data, gzipped or not, has one digest."""
        sha = hashlib.sha256()
        for path in self.files:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                while block := file.read(1 << 20):
                    sha.update(block)
        return sha.hexdigest()


def search_roots(data_dir: str | Path | None) -> list[Path]:
    """Folders to look in, first to last: ``data_dir``, ``PSN_DATA_DIR``, ``~/.cache/psn_lightning``."""
    named = [data_dir, os.environ.get("PSN_DATA_DIR"), Path.home() / ".cache" / "psn_lightning"]
    return [Path(root).expanduser() for root in named if root]


def find(folders: Sequence[Path], names: Sequence[str]) -> Source | None:
    """First folder that has every file, plain or with ``.gz``; None if there is none."""
    for folder in folders:
        files = [next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None) for name in names]
        if all(files):
            return Source(tuple(path for path in files if path))
    return None


def fetch_into(target: Path, names: Sequence[str], fetch: Callable[[Path], Path], what: str) -> None:
    """Download beside ``target`` and move the finished files in, each in one atomic step.

    Args:
        target: Folder that shall hold the files; made if it is not there.
        names: Files to keep, plain or with ``.gz``.
        fetch: Downloads into the scratch folder it is given, verifies checksums, returns the folder of the files.
        what: Name of the data set, for errors.

    Raises:
        SettingError: If nothing could be fetched, or nothing written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as scratch:
            found = find([fetch(Path(scratch))], names)
            if found is None:
                raise SettingError(f"the download of {what} lacks some of {', '.join(names)}; try again later")
            for path in found.files:
                path.replace(target / path.name)
    except SettingError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingError(
            f"{what} could not be downloaded to {target} ({reason}); "
            f"put {', '.join(names)} there by hand, or point PSN_DATA_DIR to a folder that has them"
        ) from error
