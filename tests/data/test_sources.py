import os
from hashlib import sha256

import pytest

from psn_lightning.data.sources import Source, find, search_roots
from psn_lightning.errors import SettingError
from tests.data.making import pack


def test_search_order(monkeypatch, tmp_path):
    monkeypatch.setenv("PSN_DATA_DIR", "/from/environment")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    roots = [str(root) for root in search_roots("/from/argument")]
    assert roots == ["/from/argument", "/from/environment", str(tmp_path / "psn_lightning")]
    monkeypatch.delenv("PSN_DATA_DIR")
    assert len(search_roots(None)) == 1


@pytest.mark.parametrize("name", ["~nosuchuser/x", "a\0b", "a\ud800b"])
def test_an_impossible_folder_is_named_with_its_setting(name, monkeypatch):
    with pytest.raises(SettingError, match=r"^data_dir ") as caught:
        search_roots(name)
    assert repr(name) in str(caught.value)
    if name.startswith("~"):
        monkeypatch.setenv("PSN_DATA_DIR", name)
        with pytest.raises(SettingError, match=r"^PSN_DATA_DIR '~nosuchuser/x'"):
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


def test_a_link_to_a_file_and_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "real").write_text("content")
    (tmp_path / "a").symlink_to("real")
    assert find([tmp_path / "real", tmp_path], ["a"]).folder == tmp_path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
        os.mkfifo,
    ],
    ids=["folder", "broken link", "circle", "pipe"],
)
def test_a_path_that_is_not_a_file_is_named(tmp_path, make, suffix):
    path = tmp_path / f"a{suffix}"
    make(path)
    with pytest.raises(SettingError, match=str(path)):
        find([tmp_path], ["a"])


@pytest.fixture
def unprivileged():
    """Make permissions bind root, for the length of a test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_folder_without_permission_is_named(tmp_path, request):
    (tmp_path / "closed").mkdir(mode=0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(SettingError, match=str(tmp_path / "closed" / "a")):
        find([tmp_path / "closed"], ["a"])


def test_the_digest_is_of_the_data_not_of_the_packing(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    for name, content in (("a", b"content"), ("b", b" and more")):
        (plain / name).write_bytes(content)
        (packed / f"{name}.gz").write_bytes(pack(content))
    whole, each = find([plain], ["a", "b"]).digests()
    assert (whole, each) == find([packed], ["a", "b"]).digests()
    assert whole == sha256(b"content and more").hexdigest()
    assert each == (sha256(b"content").hexdigest(), sha256(b" and more").hexdigest())
    assert Source((plain / "a",)).digests()[1] == each[:1]
