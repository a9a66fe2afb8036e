"""Readers of IDX and CSV files, plain or gzipped; sizes are bounded and every error names the file."""

from __future__ import annotations

import csv
import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError, in_one_line

MAX_BYTES = 1 << 28
"""Largest unpacked size of a file, in bytes: three times EMNIST's training images, the largest official file."""

MAX_ROWS = 1_000_000
"""Largest number of rows of a table; Covertype has 581,012. Short rows are filled up, so bytes alone set no limit."""

Part = tuple[NDArray[Any], NDArray[np.int64]]
"""Features ``(n, …)`` and labels ``(n,)`` of some rows."""

_AGAIN = "delete it and download it again"
_BLOCK = 1 << 20
_FIRST_LINE = 1 << 16
_UINT8 = 0x08


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes; a name that ends in ``.gz`` is unpacked on the fly.

    Args:
        path: File to read.

    Yields:
        The open file.

    Raises:
        SettingError: If the file cannot be read or is not a complete gzip file; also from within the block.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]  # a GzipFile has all methods that are used
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SettingError(f"{path} is not a complete gzip file ({error}); {_AGAIN}") from error
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror or error}; check permissions and disk") from error


def read_bytes(file: BinaryIO, limit: int) -> bytearray:
    """Read the next bytes of an open file.

    Args:
        file: File open for reading bytes.
        limit: Largest number of bytes; memory is taken for the bytes read, not for the limit.
    """
    content = bytearray()
    while len(content) < limit and (block := file.read(min(_BLOCK, limit - len(content)))):
        content += block
    return content


def read_idx(path: Path, n_dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, the format of MNIST.

    Args:
        path: IDX file; a name that ends in ``.gz`` is unpacked on the fly.
        n_dimensions: Expected number of dimensions: 3 for images, 1 for labels.

    Returns:
        Array of the shape that the header states.

    Raises:
        SettingError: If the file cannot be read, is not IDX, is truncated or too long, or has other dimensions.
    """
    with open_file(path) as file:
        header = read_bytes(file, 4 * (1 + n_dimensions))
        if len(header) < 4 * (1 + n_dimensions):
            raise SettingError(f"{path} is damaged: it ends within the IDX header, after {len(header)} bytes; {_AGAIN}")
        zero, kind, found, *shape = struct.unpack(f">HBB{n_dimensions}I", header)
        if zero != 0 or kind != _UINT8:
            raise SettingError(f"{path} is not an IDX file of unsigned bytes; {_AGAIN}")
        if found != n_dimensions:
            raise SettingError(
                f"{path} has {found} dimensions, expected {n_dimensions}: images and labels may be swapped; {_AGAIN}"
            )
        size = math.prod(shape)
        if size > MAX_BYTES:
            raise SettingError(f"{path} is damaged: the IDX header states {size} bytes, above {MAX_BYTES}; {_AGAIN}")
        content = read_bytes(file, size + 1)  # one more byte shows that the file is too long
    if len(content) != size:
        follow = "more" if len(content) > size else str(len(content))
        raise SettingError(f"{path} is damaged: the IDX header states {size} bytes, {follow} follow; {_AGAIN}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def read_images(images_path: Path, labels_path: Path, n_classes: int) -> Part:
    """Read images ``(n, 28, 28)`` uint8 and their labels from two IDX files.

    Raises:
        SettingError: If a file is damaged, or the two do not fit together.
    """
    images, labels = read_idx(images_path, n_dimensions=3), read_idx(labels_path, n_dimensions=1)
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise SettingError(f"{images_path} has shape {images.shape}, expected (n, 28, 28); {_AGAIN}")
    if len(labels) != len(images):
        raise SettingError(f"{labels_path} has {len(labels)} labels for {len(images)} images; {_AGAIN}")
    return images, _number_classes(labels_path, labels, n_classes)


def read_table(path: Path, n_features: int, n_classes: int, first_label: int = 0) -> Part:
    """Read a CSV file of numbers without a header line, whose last column is the label.

    Args:
        path: CSV file; a name that ends in ``.gz`` is unpacked on the fly.
        n_features: Expected number of features.
        n_classes: Expected number of classes.
        first_label: Label of the first class in the file.

    Returns:
        Features ``(n, n_features)``, float32 and finite, and labels ``(n,)`` from 0.

    Raises:
        SettingError: If the file cannot be read or is too large, a row is too long or too short, a value is not a
            finite number, or a label is unknown.
    """
    import pandas as pd  # imported here: the readers of images do not need it

    with open_file(path) as file:
        content = read_bytes(file, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SettingError(f"{path} has more than {MAX_BYTES} bytes when unpacked; {_AGAIN}")
    line = content[:_FIRST_LINE].split(b"\n", 1)[0]
    found = line.count(b",") + bool(line)
    if found != n_features + 1:
        raise SettingError(f"{path} has {found} columns, expected {n_features + 1}; {_AGAIN}")
    try:
        with np.errstate(over="ignore"):  # overflow gives infinities, which are refused below
            table = pd.read_csv(
                io.BytesIO(content), header=None, dtype=np.float32, nrows=MAX_ROWS + 1, quoting=csv.QUOTE_NONE
            ).to_numpy()
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise SettingError(f"{path} is not a table of numbers ({in_one_line(error)}); {_AGAIN}") from error
    if len(table) > MAX_ROWS:
        raise SettingError(f"{path} has more than {MAX_ROWS} rows; {_AGAIN}")
    if not np.isfinite(table).all():
        raise SettingError(f"{path} has missing or infinite values; {_AGAIN}")
    return table[:, :-1], _number_classes(path, table[:, -1], n_classes, first_label)


def _number_classes(path: Path, labels: NDArray[Any], n_classes: int, first: int = 0) -> NDArray[np.int64]:
    """Check labels and number the classes from 0."""
    wrong = labels[~np.isin(labels, np.arange(first, first + n_classes))]
    if wrong.size:
        raise SettingError(f"{path} has the label {wrong[0]:g}, outside {first} … {first + n_classes - 1}; {_AGAIN}")
    return labels.astype(np.int64) - first
