import gzip
import tracemalloc

import numpy as np
import pytest

from psn_lightning.data.idx import read_idx
from psn_lightning.data.reading import MOST
from psn_lightning.errors import SettingError
from tests.data.making import idx

IMAGES = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_what_was_written(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx(IMAGES), mtime=0) if suffix else idx(IMAGES))
    assert np.array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", b"", "within the IDX header"),
        ("truncated", idx(IMAGES)[:-1], "24 bytes, only 23 follow"),
        ("too_long", idx(IMAGES) + b"x", "24 bytes, more follow"),
        ("swapped", idx(np.arange(200)), "1 dimensions, expected 3; images and labels swapped"),
        ("text", b"<html>not found</html>", "no IDX file"),
        ("floats", idx(IMAGES, kind=0x0D), "no IDX file of unsigned bytes"),
        ("no_gzip.gz", idx(IMAGES), "not a complete gzip file"),
        ("short.gz", gzip.compress(idx(IMAGES)[:-1], mtime=0), "24 bytes, only 23 follow"),
        ("long.gz", gzip.compress(idx(IMAGES) + b"x", mtime=0), "24 bytes, more follow"),
        ("empty.gz", b"", "within the IDX header"),
        ("packed_twice.gz", gzip.compress(gzip.compress(idx(IMAGES), mtime=0), mtime=0), "no IDX file"),
        ("no_deflate.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "not a complete gzip file"),
        ("flipped.gz", gzip.compress(idx(IMAGES), mtime=0)[:-6] + b"xxxxxx", "not a complete gzip file"),
        ("packed_without_a_name_for_it", gzip.compress(idx(IMAGES), mtime=0), "no IDX file"),
        ("cut.gz", gzip.compress(idx(IMAGES), mtime=0)[:-9], "not a complete gzip file"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert "etch" in str(caught.value)  # again


def test_no_more_is_unpacked_than_the_header_states(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx(IMAGES) + bytes(64 << 20), mtime=0))
    tracemalloc.start()
    try:
        with pytest.raises(SettingError, match="more follow"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_header_is_not_believed_beyond_a_bound(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    header = idx(IMAGES)[:4] + b"\xff" * 12
    path.write_bytes(gzip.compress(header, mtime=0) if suffix else header)
    with pytest.raises(SettingError, match=f"states {(2**32 - 1) ** 3} bytes; delete it"):
        read_idx(path, 3)
    within = idx(IMAGES)[:4] + np.array([MOST // 64, 8, 8], ">u4").tobytes()
    path.write_bytes(gzip.compress(within, mtime=0) if suffix else within)
    tracemalloc.start()
    try:
        with pytest.raises(SettingError, match="only 0 follow"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20  # what is not there takes no memory
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingError, match="cannot be read"):
        read_idx(tmp_path / "absent", 3)
