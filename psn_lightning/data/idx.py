"""IDX files (MNIST's format), plain or gzipped, read with every claim of the header checked."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError

_UINT8 = 0x08


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: The file; a name ending in ``.gz`` is unpacked on the fly.
        dimensions: What is expected: 3 for images, 1 for labels.

    Returns:
        Array of the shape that the header states.

    Raises:
        SettingError: If the file is empty, truncated, too long, not IDX, or has other dimensions.
    """
    content = _read_bytes(path)
    remedy = f"{path} is damaged or not what its name says"
    if len(content) < 4 * (1 + dimensions):
        raise SettingError(f"{remedy}: it ends within the IDX header; delete it and fetch it again")
    zero, kind, found = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != _UINT8:
        raise SettingError(f"{remedy}: it is no IDX file of unsigned bytes; delete it and fetch it again")
    if found != dimensions:
        raise SettingError(f"{remedy}: {found} dimensions, expected {dimensions}; images and labels swapped?")
    header = 4 * (1 + dimensions)
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise SettingError(
            f"{remedy}: the header states {math.prod(shape)} bytes, {len(content) - header} follow; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SettingError(f"{path} is not a complete gzip file ({error}); delete it and fetch it again") from error
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
