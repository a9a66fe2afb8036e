"""Checkpoint files that are complete or absent, and the check for damage."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from psn_lightning.errors import in_one_line
from psn_lightning.files import atomically, not_written, write_all


class DurableIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file and renames it, so that a kill or a full disk leaves the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Content of the checkpoint.
            path: File to write.
            storage_options: Not used; part of Lightning's interface.

        Raises:
            SettingError: If the file cannot be written.
        """
        refused: list[OSError] = []
        try:
            with atomically(path) as scratch, scratch.open("wb", buffering=0) as file:
                torch.save(checkpoint, cast(IO[bytes], _ErrorRecordingFile(file, refused)))
        except (OSError, RuntimeError) as error:
            refused += [error] if isinstance(error, OSError) else []
            if not refused:
                raise
            raise not_written(f"checkpoint {path}", Path(path).parent, refused[0]) from error


class _ErrorRecordingFile:
    """File that keeps the errors of the disk: ``torch.save`` raises an error of its own instead of them."""

    def __init__(self, file: IO[bytes], refused: list[OSError]) -> None:
        self._file = file
        self._refused = refused

    def write(self, data: Any) -> int:
        """Write all data.

        Raises:
            OSError: If the disk does not take all of it.
        """
        try:
            return write_all(self._file, data)
        except OSError as error:
            self._refused.append(error)
            raise

    def flush(self) -> None:
        """Do nothing: the file is unbuffered."""


def keep_copy(path: Path, as_name: str) -> None:
    """Keep a file under a second name before it is replaced: a hard link, which takes no space until then.

    Args:
        path: File to keep.
        as_name: Second name in the same folder.

    Raises:
        SettingError: If the second name cannot be written.
    """
    try:
        with atomically(path.with_name(as_name)) as scratch:
            try:
                os.link(path, scratch)
            except OSError:  # file system without hard links
                shutil.copyfile(path, scratch)
    except OSError as error:
        raise not_written(f"checkpoint {path.with_name(as_name)}", path.parent, error) from error


def find_damage(path: Path) -> str | None:
    """Check the file of a checkpoint for damage.

    Every byte is read and compared with the checksums that torch writes. Nothing is unpickled, and compressed members,
    which torch never writes, are not unpacked.

    Args:
        path: File to check.

    Returns:
        Description of the damage; None for an undamaged file.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                return "it is compressed, torch writes uncompressed files"
            if sum(member.file_size for member in members) > path.stat().st_size:
                return "the sizes of its members exceed the size of the file"
            broken = file.testzip()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # zipfile raises errors of many types for a damaged directory
        return in_one_line(error)
    return None if broken is None else f"checksum of {broken} does not match"
