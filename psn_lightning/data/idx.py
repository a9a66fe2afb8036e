"""IDX files (MNIST's format), plain or gzipped, read with every claim of the header checked and no byte beyond it."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psn_lightning.data.reading import MOST, opened, read_at_most
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
        SettingError: If the file cannot be read, is empty, truncated, too long, not IDX, or has other dimensions.
    """
    header = 4 * (1 + dimensions)
    damaged = f"{path} is damaged or not what its name says"
    with opened(path) as file:
        shape = _shape(read_at_most(file, header), dimensions, damaged)
        stated = math.prod(shape)
        if stated > MOST:
            raise SettingError(f"{damaged}: the header states {stated} bytes; delete it and fetch it again")
        content = read_at_most(file, stated + 1)  # one more, to notice that there are more
    if len(content) != stated:
        follow = "more" if len(content) > stated else f"only {len(content)}"
        raise SettingError(
            f"{damaged}: the header states {stated} bytes, {follow} follow; delete it and fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _shape(header: bytes | bytearray, dimensions: int, damaged: str) -> tuple[int, ...]:
    if len(header) < 4 * (1 + dimensions):
        raise SettingError(f"{damaged}: it ends within the IDX header; delete it and fetch it again")
    zero, kind, found = struct.unpack(">HBB", header[:4])
    if zero != 0 or kind != _UINT8:
        raise SettingError(f"{damaged}: it is no IDX file of unsigned bytes; delete it and fetch it again")
    if found != dimensions:
        raise SettingError(
            f"{damaged}: {found} dimensions, expected {dimensions}; images and labels swapped? Fetch the files again"
        )
    return struct.unpack(f">{dimensions}I", header[4:])
