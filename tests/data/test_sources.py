import gzip
from pathlib import Path

import pytest

from psn_lightning.data.sources import fetch_into, find, search_roots
from psn_lightning.errors import SettingError


def test_search_order(monkeypatch):
    monkeypatch.setenv("PSN_DATA_DIR", "/from/environment")
    roots = [str(root) for root in search_roots("/from/argument")]
    assert roots[:2] == ["/from/argument", "/from/environment"]
    assert roots[2].endswith(".cache/psn_lightning")
    monkeypatch.delenv("PSN_DATA_DIR")
    assert len(search_roots(None)) == 1


def test_find_takes_the_first_complete_folder_plain_or_gzipped(tmp_path):
    partial, gzipped = tmp_path / "partial", tmp_path / "gzipped"
    for folder, names in ((partial, ["a"]), (gzipped, ["a.gz", "b"])):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    source = find([tmp_path / "absent", partial, gzipped], ["a", "b"])
    assert [path.name for path in source.files] == ["a.gz", "b"]
    assert source.folder == gzipped
    assert find([partial], ["a", "b"]) is None


def test_digest_follows_the_bytes(tmp_path):
    (tmp_path / "a").write_text("1")
    before = find([tmp_path], ["a"]).digest()
    (tmp_path / "a").write_text("2")
    assert find([tmp_path], ["a"]).digest() != before


def test_digest_is_of_the_data_not_of_the_packing(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    (plain / "a").write_bytes(b"content")
    (packed / "a.gz").write_bytes(gzip.compress(b"content"))
    assert find([plain], ["a"]).digest() == find([packed], ["a"]).digest()


def test_fetch_moves_finished_files_in_and_leaves_nothing_else(tmp_path):
    def fetch(scratch: Path) -> Path:
        (scratch / "deep").mkdir()
        (scratch / "deep" / "a").write_text("content")
        (scratch / "rubbish").write_text("")
        return scratch / "deep"

    fetch_into(tmp_path / "target", ["a"], fetch, "Test")
    assert [p.name for p in (tmp_path / "target").iterdir()] == ["a"]
    assert (tmp_path / "target" / "a").read_text() == "content"


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("bad\nchecksum"), ValueError("hash differs")])
def test_a_failed_fetch_names_the_remedy_and_leaves_nothing(tmp_path, error):
    def fetch(scratch: Path) -> Path:
        (scratch / "a.part").write_text("half")
        raise error

    with pytest.raises(SettingError, match=r"Test could not be downloaded.*put a there by hand"):
        fetch_into(tmp_path / "target", ["a"], fetch, "Test")
    assert list((tmp_path / "target").iterdir()) == []


def test_a_fetch_that_lacks_a_file(tmp_path):
    with pytest.raises(SettingError, match="lacks some of a, b"):
        fetch_into(tmp_path / "target", ["a", "b"], lambda scratch: scratch, "Test")
