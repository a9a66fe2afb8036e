import gzip
import os
from hashlib import sha256

import pytest

from psn_lightning.data.sources import find, search_roots
from psn_lightning.errors import SettingError


def test_search_order(monkeypatch):
    monkeypatch.setenv("PSN_DATA_DIR", "/from/environment")
    roots = [str(root) for root in search_roots("/from/argument")]
    assert roots[:2] == ["/from/argument", "/from/environment"]
    assert roots[2].endswith(".cache/psn_lightning")
    monkeypatch.delenv("PSN_DATA_DIR")
    assert len(search_roots(None)) == 1


@pytest.mark.parametrize("name", ["~nosuchuser/x", "a\0b", "a\ud800b"])
def test_what_can_be_no_folder_is_told_with_its_setting(name, monkeypatch):
    with pytest.raises(SettingError, match=r"^data_dir .* cannot be a folder"):
        search_roots(name)
    if not name.startswith("a"):
        monkeypatch.setenv("PSN_DATA_DIR", name)
        with pytest.raises(SettingError, match=r"^PSN_DATA_DIR '~nosuchuser/x' cannot be a folder"):
            search_roots(None)


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
    before = find([tmp_path], ["a"]).digests()
    (tmp_path / "a").write_text("2")
    assert find([tmp_path], ["a"]).digests() != before


def test_digest_is_of_the_data_not_of_the_packing(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    for name, content in (("a", b"content"), ("b", b" and more")):
        (plain / name).write_bytes(content)
        (packed / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    whole, each = find([plain], ["a", "b"]).digests()
    assert (whole, each) == find([packed], ["a", "b"]).digests()
    assert whole == sha256(b"content and more").hexdigest()
    assert each == (sha256(b"content").hexdigest(), sha256(b" and more").hexdigest())


def folder(path):
    path.mkdir()


def broken_link(path):
    path.symlink_to("nowhere")


def circle(path):
    path.symlink_to(path.name)


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (folder, "not a file but a folder"),
        (broken_link, "a link to nothing"),
        (circle, "Too many levels of symbolic links"),
        (pipe, "not a file but a folder or a device"),
    ],
)
def test_what_is_in_the_place_of_a_file_is_named(tmp_path, make, message, suffix):
    path = tmp_path / f"a{suffix}"
    make(path)
    with pytest.raises(SettingError, match=message) as caught:
        find([tmp_path], ["a"])
    assert str(path) in str(caught.value)


def test_a_link_to_a_file_and_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "real").write_text("content")
    (tmp_path / "a").symlink_to("real")
    assert find([tmp_path / "real", tmp_path], ["a"]).folder == tmp_path
