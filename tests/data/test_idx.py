import gzip
import struct

import numpy as np
import pytest

from psn_lightning.data.idx import read_idx
from psn_lightning.errors import SettingError


def idx(array, kind=0x08):
    header = struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


IMAGES = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_what_was_written(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx(IMAGES)) if suffix else idx(IMAGES))
    assert np.array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", b"", "within the IDX header"),
        ("truncated", idx(IMAGES)[:-1], "24 bytes, 23 follow"),
        ("too_long", idx(IMAGES) + b"x", "24 bytes, 25 follow"),
        ("swapped", idx(np.arange(200)), "1 dimensions, expected 3; images and labels swapped"),
        ("text", b"<html>not found</html>", "no IDX file"),
        ("floats", idx(IMAGES, kind=0x0D), "no IDX file of unsigned bytes"),
        ("no_gzip.gz", idx(IMAGES), "not a complete gzip file"),
        ("cut.gz", gzip.compress(idx(IMAGES), mtime=0)[:-9], "not a complete gzip file"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingError, match="cannot be read"):
        read_idx(tmp_path / "absent", 3)
