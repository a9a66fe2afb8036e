"""Checkpoints that are whole or not there, and how to tell."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from psn_lightning.errors import SettingError
from psn_lightning.files import atomically


class DurableIO(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them: a kill or a full disk leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            SettingError: If the disk does not take it.
        """
        refused: list[OSError] = []
        try:
            with atomically(path) as scratch, _WatchedFile(scratch, refused) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            refused += [error] if isinstance(error, OSError) else []
            if not refused:
                raise
            free = shutil.disk_usage(Path(path).parent).free // 2**20
            raise SettingError(
                f"checkpoint {path} cannot be written ({refused[0].strerror}; {free} MiB are free); those before are "
                "whole: make room, then go on with --ckpt_path last"
            ) from error


class _WatchedFile(io.FileIO):
    """A file that remembers what the disk said: torch puts an error of its own in its place."""

    def __init__(self, path: Path, refused: list[OSError]) -> None:
        super().__init__(path, "wb")
        self._refused = refused

    def write(self, data: Any, /) -> int:
        """Write all of it."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self._refused.append(error)
            raise
        return done


def keep(path: Path, as_name: str) -> None:
    """Keep a file under another name in its folder before it is replaced; it takes no room until then.

    Raises:
        OSError: If the disk does not take it.
    """
    scratch = path.with_name(f".{as_name}")
    scratch.unlink(missing_ok=True)
    try:
        os.link(path, scratch)
    except OSError:  # a file system without links
        shutil.copyfile(path, scratch)
    scratch.replace(path.with_name(as_name))


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file; None if it is as it was written.

    Every byte is read and compared with the checksums that torch writes; nothing is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    except OSError as error:
        return error.strerror or str(error)
    return None if broken is None else f"{broken} does not have its checksum"
