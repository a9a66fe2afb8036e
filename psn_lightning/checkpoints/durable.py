"""Checkpoints that are whole or not there, and how to tell."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from psn_lightning.errors import in_one_line
from psn_lightning.files import atomically, not_written, write_all


class DurableIO(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them: a kill or a full disk leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            SettingError: If the disk does not take it.
        """
        refused: list[OSError] = []
        try:
            with atomically(path) as scratch, scratch.open("wb", buffering=0) as file:
                torch.save(checkpoint, cast(IO[bytes], _Watched(file, refused)))
        except (OSError, RuntimeError) as error:
            refused += [error] if isinstance(error, OSError) else []
            if not refused:
                raise
            raise not_written(f"checkpoint {path}", Path(path).parent, refused[0]) from error


class _Watched:
    """A file that remembers what the disk said: torch puts an error of its own in its place."""

    def __init__(self, file: IO[bytes], refused: list[OSError]) -> None:
        self._file = file
        self._refused = refused

    def write(self, data: Any) -> int:
        """Write all of it."""
        try:
            return write_all(self._file, data)
        except OSError as error:
            self._refused.append(error)
            raise

    def flush(self) -> None:
        """Nothing is held back."""


def keep(path: Path, as_name: str) -> None:
    """Keep a file under another name in its folder before it is replaced; it takes no room until then.

    Raises:
        SettingError: If the disk does not take it.
    """
    try:
        with atomically(path.with_name(as_name)) as scratch:
            try:
                os.link(path, scratch)
            except OSError:  # a file system without links
                shutil.copyfile(path, scratch)
    except OSError as error:
        raise not_written(f"checkpoint {path.with_name(as_name)}", path.parent, error) from error


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file; None if it is as it was written.

    Every byte is read and compared with the checksums that torch writes; nothing is unpickled, and nothing unpacked:
    torch does not compress, so that a file that does is none of its.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                return "it is compressed, which torch's are not"
            if sum(member.file_size for member in members) > path.stat().st_size:
                return "it says to hold more than it has bytes"
            broken = file.testzip()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # zipfile raises what it happens to come across in a damaged directory
        return in_one_line(error)
    return None if broken is None else f"{broken} does not have its checksum"
