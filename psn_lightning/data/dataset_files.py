"""Files of a data set: names, checksums, search and download. Imports neither torch nor Lightning."""

from __future__ import annotations

import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pooch

from psn_lightning.data.sources import Source, find, search_roots
from psn_lightning.errors import SettingError, in_one_line

_RETRIES = 2  # of each file on each mirror; pooch waits 1 s, then 2 s


class DatasetFiles(ABC):
    """Files of a data set: names, checksums, folders and download addresses.

    Args:
        data_dir: Folder to search first, and to download to.
    """

    title: ClassVar[str]  # name in messages and logs
    folder: ClassVar[str]  # folder of the files, below each searched folder
    n_features: ClassVar[int]
    n_classes: ClassVar[int]
    official_rows: ClassVar[int]  # number of rows of the complete set, training and test together
    official_digests: ClassVar[tuple[str, ...]] = ()  # SHA-256 of each unpacked file of the complete set, if known
    mirrors: ClassVar[tuple[str, ...]] = ()  # addresses, tried in turn; {name} stands for a file of the registry
    registry: ClassVar[Mapping[str, str]] = {}  # files to download and their checksums, as pooch writes them

    def __init__(self, data_dir: str | None = None) -> None:
        super().__init__()
        self.data_dir = data_dir

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """File names; a file ``name.gz`` serves as well."""

    def system_folders(self) -> list[Path]:
        """Folders of system packages that may hold the files."""
        return []

    def subset_title(self, rows: int) -> str:
        """Name of data that are not the official, complete set.

        Args:
            rows: Number of training and test rows.
        """
        return f"{self.title} subset ({rows} rows)"

    def locate(self) -> Source | None:
        """Find the files on this machine; None if there are none.

        Raises:
            SettingError: If a path with the name of a file is not a readable file.
        """
        roots = [root / self.folder for root in search_roots(self.data_dir)]
        return find([*roots, *self.system_folders()], self.names)

    def fetch(self, scratch: Path) -> Path:
        """Download the files of ``registry`` and verify their checksums.

        Args:
            scratch: Empty folder to download to.

        Returns:
            Folder that holds the files.

        Raises:
            OSError: If the last mirror cannot be reached.
            ValueError: If a checksum differs on the last mirror, or no mirror is known.
        """
        failure: Exception = ValueError("no download address is known")
        for mirror in self.mirrors:
            urls = {name: mirror.format(name=name) for name in self.registry}
            store = pooch.create(scratch, "", registry=self.registry, urls=urls, retry_if_failed=_RETRIES)
            try:
                for name in self.registry:
                    store.fetch(name, progressbar=True)
                return scratch
            except (OSError, ValueError) as error:
                failure = error
        raise failure

    def download_files(self) -> None:
        """Download the files to the first searched folder.

        Each file appears there whole or not at all. Several processes may download at the same time.

        Raises:
            SettingError: If the download fails or the files cannot be written.
        """
        target = search_roots(self.data_dir)[0] / self.folder
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as scratch:
                source = find([self.fetch(Path(scratch))], self.names)
                if source is None:
                    raise ValueError(f"the download lacks some of {', '.join(self.names)}")
                for path in source.files:
                    path.chmod(0o644)  # pooch's files can be read by their owner only
                    path.replace(target / path.name)
        except SettingError:
            raise
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise SettingError(
                f"{self.title} cannot be downloaded to {target} ({in_one_line(error)}); put {', '.join(self.names)} "
                "there, or set PSN_DATA_DIR to a folder that has them"
            ) from error

    def identify(self, source: Source, rows: int) -> dict[str, str]:
        """Provenance of files that were read: name, complete or subset, digest and folder.

        Args:
            source: Files.
            rows: Number of training and test rows in them.

        Raises:
            SettingError: If there are as many rows as in the complete set, but a file differs from the official one.
        """
        digest, each = source.digests()
        complete = rows == self.official_rows
        for path, found, official in zip(source.files, each, self.official_digests if complete else (), strict=False):
            if found != official:
                raise SettingError(
                    f"{path} is damaged: its SHA-256 is {found}, that of the official file {official}; delete it and "
                    "download it again"
                )
        return {
            "dataset.name": self.title if complete else self.subset_title(rows),
            "dataset.completeness": "complete" if complete else "subset",
            "dataset.digest": digest,
            "dataset.folder": str(source.folder),
        }
