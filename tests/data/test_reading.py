import gzip
import io
import itertools

import pytest

from psn_lightning.data import reading
from psn_lightning.data.reading import BoundedText, opened, read_at_most
from psn_lightning.errors import SettingError


def bounded(content, path):
    return io.BufferedReader(BoundedText(io.BytesIO(content), path))


def test_text_within_the_bounds_is_passed_on(tmp_path):
    content = b"\n".join(b"x" * n for n in itertools.chain(range(2000), [1 << 16])) + b"\n\nend"
    assert bounded(content, tmp_path).read() == content


@pytest.mark.parametrize("before", [0, 1, 5000])
def test_a_line_has_an_end(tmp_path, before):
    path = tmp_path / "table"
    with pytest.raises(SettingError, match="a line of more than 65536 bytes") as caught:
        bounded(b"short\n" * before + b"," * ((1 << 16) + 8192), path).read()
    assert str(path) in str(caught.value)


def test_a_file_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST", 6000)
    lines = b"1,2,3\n" * 1000
    assert bounded(lines, tmp_path).read() == lines
    with pytest.raises(SettingError, match="more than 6000 bytes"):
        bounded(lines + b"\n", tmp_path).read()


def test_at_most_what_was_asked_for():
    content = bytes(range(256)) * 10_000
    file = io.BytesIO(content)
    assert read_at_most(file, 2_000_000) == content[:2_000_000]
    assert file.tell() == 2_000_000
    assert read_at_most(file, 1 << 40) == content[2_000_000:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "Not a gzipped file"),
        (gzip.compress(bytes(9999), mtime=0)[:-9], "end-of-stream"),
        (None, "cannot be read"),
    ],
)
def test_errors_while_reading_name_the_file(tmp_path, content, message):
    path = tmp_path / "a.gz"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=message) as caught, opened(path) as file:
        file.read()
    assert str(path) in str(caught.value)
