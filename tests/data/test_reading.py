import io
import tracemalloc

import numpy as np
import pytest

from psn_lightning.data import reading
from psn_lightning.data.reading import MAX_BYTES, open_file, read_bytes, read_idx, read_images, read_table
from psn_lightning.errors import SettingError
from tests.data.making import covertype_lines, idx, pack, replace_column

IMAGES = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize("content", [b"not gzip", pack(bytes(9999))[:-9], None])
def test_errors_while_reading_name_the_file(tmp_path, content):
    path = tmp_path / "a.gz"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingError, match=r"a\.gz"), open_file(path) as file:
        file.read()


def test_at_most_the_limit_is_read():
    content = bytes(range(256)) * 10_000
    file = io.BytesIO(content)
    assert read_bytes(file, 2_000_000) == content[:2_000_000]
    assert file.tell() == 2_000_000
    assert read_bytes(file, 1 << 40) == content[2_000_000:]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_the_idx_array_that_was_written(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(pack(idx(IMAGES)) if suffix else idx(IMAGES))
    assert np.array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("empty", b"", "0"),
        ("header_cut", idx(IMAGES)[:15], "15"),
        ("truncated", idx(IMAGES)[:-1], "24 bytes, 23"),
        ("too_long", idx(IMAGES) + b"x", "24 bytes, more"),
        ("swapped", idx(np.arange(200)), "1 dimensions, expected 3"),
        ("text", b"<html>not found</html>", "IDX"),
        ("floats", idx(IMAGES, kind=0x0D), "IDX"),
        ("no_gzip.gz", idx(IMAGES), "gzip"),
        ("short.gz", pack(idx(IMAGES)[:-1]), "24 bytes, 23"),
        ("long.gz", pack(idx(IMAGES) + b"x"), "24 bytes, more"),
        ("packed_twice.gz", pack(pack(idx(IMAGES))), "IDX"),
        ("no_deflate.gz", pack(b"")[:10] + b"\xff" * 20, "gzip"),
        ("flipped.gz", pack(idx(IMAGES))[:-6] + b"xxxxxx", "gzip"),
        ("packed_without_suffix", pack(idx(IMAGES)), "IDX"),
        ("cut.gz", pack(idx(IMAGES))[:-9], "gzip"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, name, content, value):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingError, match=value) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(SettingError, match="absent"):
        read_idx(tmp_path / "absent", 3)


def test_no_more_is_unpacked_than_the_header_states(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(pack(idx(IMAGES) + bytes(64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(SettingError, match="more"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_size_in_a_header_has_a_bound(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    header = idx(IMAGES)[:4] + b"\xff" * 12
    path.write_bytes(pack(header) if suffix else header)
    with pytest.raises(SettingError, match=str((2**32 - 1) ** 3)):
        read_idx(path, 3)
    within = idx(IMAGES)[:4] + np.array([MAX_BYTES // 64, 8, 8], ">u4").tobytes()
    path.write_bytes(pack(within) if suffix else within)
    tracemalloc.start()
    try:
        with pytest.raises(SettingError, match=f"{MAX_BYTES} bytes, 0"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20  # bytes that are absent need no memory
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("images", "labels", "culprit", "value"),
    [
        (np.zeros((3, 28, 28)), np.arange(2), "labels", "2 labels for 3 images"),
        (np.zeros((0, 28, 28)), np.arange(0), "images", r"\(0, 28, 28\)"),
        (np.zeros((3, 14, 56)), np.arange(3), "images", r"\(3, 14, 56\)"),
        (np.zeros((3, 28, 28)), np.array([0, 7, 1]), "labels", "7"),
    ],
)
def test_images_and_labels_fit_together(tmp_path, images, labels, culprit, value):
    paths = [tmp_path / "images", tmp_path / "labels"]
    for path, array in zip(paths, (images, labels), strict=True):
        path.write_bytes(idx(array))
    with pytest.raises(SettingError, match=value) as caught:
        read_images(*paths, n_classes=5)
    assert str(caught.value).startswith(str(tmp_path / culprit))


def write_table(path, *lines):
    path.write_bytes(pack("\n".join(lines).encode()))
    return path


def test_a_table_is_features_and_labels_from_zero(tmp_path):
    path = write_table(tmp_path / "t.gz", "0.5,2,3", "1e3,-4,1")
    features, labels = read_table(path, n_features=2, n_classes=3, first_label=1)
    assert features.dtype == np.float32
    assert features.tolist() == [[0.5, 2], [1000, -4]]
    assert labels.tolist() == [2, 0]


ROW = covertype_lines(1)[0].split(",")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([], "0 columns, expected 55"),
        (covertype_lines(columns=53), "53 columns, expected 55"),
        (covertype_lines(columns=54), "54 columns, expected 55"),
        ([*covertype_lines(), ",".join(ROW[:53])], "missing"),
        ([*covertype_lines(), ",".join([*ROW, "1"])], "Expected 55 fields"),
        ([*covertype_lines(), ",".join(["nan", *ROW[1:]])], "infinite"),
        ([*covertype_lines(), ",".join(["1e99", *ROW[1:]])], "infinite"),
        ([*covertype_lines(), ",".join(["tree", *ROW[1:]])], "tree"),
        ([*covertype_lines(), ",".join([*ROW[:-1], "0"])], "0, outside 1 … 7"),
        ([*covertype_lines(), ",".join([*ROW[:-1], "8"])], "8, outside 1 … 7"),
        (replace_column(-1, "1", "1.5"), "1.5, outside 1 … 7"),
    ],
)
def test_damaged_tables_are_named(tmp_path, lines, value):
    path = write_table(tmp_path / "t.gz", *lines)
    with pytest.raises(SettingError, match=value) as caught:
        read_table(path, n_features=54, n_classes=7, first_label=1)
    assert str(path) in str(caught.value)


def test_tables_are_bounded_in_rows_and_bytes(tmp_path, monkeypatch):
    """One byte of a short row becomes a hundred in memory."""
    assert reading.MAX_ROWS > 581_012
    monkeypatch.setattr(reading, "MAX_ROWS", 1000)
    with pytest.raises(SettingError, match="1000"):
        read_table(write_table(tmp_path / "t.gz", *covertype_lines(1000), "1"), 54, 7, 1)
    path = write_table(tmp_path / "t.gz", covertype_lines(1)[0], *["1"] * 2_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(SettingError, match="1000"):
            read_table(path, 54, 7, 1)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(reading, "MAX_BYTES", 5000)
    with pytest.raises(SettingError, match="5000"):
        read_table(write_table(tmp_path / "t.gz", ROW[0] + ",1" * 99_999), 54, 7, 1)
