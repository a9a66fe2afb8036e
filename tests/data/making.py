"""Data files in the formats of the real ones, made small."""

import gzip
import struct

import numpy as np


def idx(array, kind=0x08):
    header = struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def pack(content):
    return gzip.compress(content, mtime=0)


def write_idx(folder, names, n=(30, 10), classes=10, gz=False):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in zip(names, (n[0], n[0], n[1], n[1]), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        content = idx(rng.integers(0, 256 if "images" in name else classes, shape))
        path = folder / (name + ".gz" * gz)
        path.write_bytes(pack(content) if gz else content)


def covertype_lines(n=200, columns=55):
    rng = np.random.default_rng(0)
    table = np.column_stack(
        [rng.integers(0, 3000, (n, 10)), rng.integers(0, 2, (n, columns - 11)), np.arange(n) % 7 + 1]
    )
    return [",".join(map(str, row)) for row in table.tolist()]


def replace_column(which, *values):
    """Lines of Covertype with these values in a column, in turn."""
    rows = [line.split(",") for line in covertype_lines()]
    for number, row in enumerate(rows):
        row[which] = values[number % len(values)]
    return [",".join(row) for row in rows]


def write_covertype(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "covtype.data.gz").write_bytes(pack("\n".join(lines).encode()))
