"""All files of a report are written, or none."""

from pathlib import Path

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.paper.report.writing import write


def test_files_and_their_folders_are_written(tmp_path):
    write({tmp_path / "a" / "b" / "c": b"1", tmp_path / "d": b"2"})
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"1"
    assert (tmp_path / "d").read_bytes() == b"2"


@pytest.mark.parametrize("wrong", ["file/x", "folder", "n" * 300])
def test_where_one_cannot_be_none_is(tmp_path, wrong):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingError, match=r"cannot be written \(.*\): name another --out"):
        write({tmp_path / "file": b"new", tmp_path / "a" / "b" / "c": b"1", tmp_path / wrong: b"2"})
    assert (tmp_path / "file").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_disk_that_is_full_in_the_middle(tmp_path, monkeypatch):
    def full(path, content):
        if content == b"2":
            raise OSError(28, "No space left on device")
        return plain(path, content)

    plain = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingError, match="c cannot be written"):
        write({tmp_path / "x" / "a": b"1", tmp_path / "x" / "c": b"2"})
    assert not list(tmp_path.iterdir())
