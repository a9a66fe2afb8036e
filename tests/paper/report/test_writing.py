"""Files of a report: all of them are written, or none."""

from pathlib import Path

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.paper.report.writing import write


def test_files_and_their_folders_are_written(tmp_path):
    write({tmp_path / "a" / "b" / "c": b"1", tmp_path / "d": b"2"})
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"1"
    assert (tmp_path / "d").read_bytes() == b"2"


@pytest.mark.parametrize("wrong", ["file/x", "folder", "n" * 300])
def test_if_one_file_cannot_be_written_none_is(tmp_path, wrong):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingError, match=wrong):
        write({tmp_path / "file": b"new", tmp_path / "a" / "b" / "c": b"1", tmp_path / wrong: b"2"})
    assert (tmp_path / "file").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_disk_that_becomes_full_leaves_no_files(tmp_path, monkeypatch):
    def fill_disk(path, content):
        if content == b"2":
            raise OSError(28, "No space left on device")
        return write_bytes(path, content)

    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(SettingError, match="/c cannot be written"):
        write({tmp_path / "x" / "a": b"1", tmp_path / "x" / "c": b"2"})
    assert not list(tmp_path.iterdir())
