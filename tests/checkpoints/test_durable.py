"""Checkpoints are whole, or told to be damaged, whatever has happened to their bytes."""

import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.checkpoints.durable import DurableIO, find_damage, keep_copy
from psn_lightning.checkpoints.origin import KEY, DamagedError, read_origin
from psn_lightning.errors import SettingError

STATE = {
    "state_dict": {"w": torch.arange(50.0)},
    "global_step": 3,
    KEY: {"config": "model: {sparsity: 0.9}", "run_id": "a" * 32, "version": "0.0.1"},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "last.ckpt"
    DurableIO().save_checkpoint(STATE, path)
    return path


def test_what_is_written_is_read(written):
    assert find_damage(written) is None
    origin = read_origin(written, weights_only=True)
    assert (origin.step, origin.config, origin.run_id) == (3, {"model.sparsity": 0.9}, "a" * 32)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_bit_that_is_turned_is_noticed_or_changes_nothing(data, written, tmp_path_factory):
    """Names, directory and padding of the archive included; whatever it is, nothing else than our error comes."""
    content = bytearray(written.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "turned.ckpt"
    path.write_bytes(content)
    try:
        origin = read_origin(path, weights_only=True)
    except DamagedError:
        return
    assert (origin.step, origin.run_id) == (3, "a" * 32)
    assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["w"], torch.arange(50.0))


@given(length=st.integers(0, 1500))
@settings(max_examples=30, deadline=None)
def test_one_that_was_cut_is_noticed(length, written, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "cut.ckpt"
    path.write_bytes(written.read_bytes()[:length])
    with pytest.raises(DamagedError, match=r"cut\.ckpt"):
        read_origin(path, weights_only=True)


def test_nothing_is_unpacked(tmp_path):
    """Torch packs nothing: 300 MB in a few KB are none of its."""
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x/data.pkl", "w") as member:
        for _ in range(30):
            member.write(bytes(10**7))
    assert "compressed" in find_damage(path)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """A directory that names the same bytes a thousand times would have them read a thousand times."""
    path = tmp_path / "shared.ckpt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data", bytes(10**6))
        for _ in range(1000):
            file.filelist.append(file.filelist[0])
    assert "size of the file" in find_damage(path)


def test_the_one_before_is_kept_also_without_links(written, tmp_path, monkeypatch):
    for links in (True, False):
        path = tmp_path / "last.ckpt"
        path.write_bytes(b"old")
        if not links:
            monkeypatch.setattr("os.link", refuse)
        keep_copy(path, "previous.ckpt")
        path.unlink()
        assert (tmp_path / "previous.ckpt").read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["previous.ckpt"]


def refuse(*_):
    raise OSError(95, "Operation not supported")


def test_a_disk_that_does_not_take_it_is_told(tmp_path, monkeypatch):
    (tmp_path / "last.ckpt").write_bytes(b"old")
    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(SettingError, match=r"previous\.ckpt cannot be written \(Operation not supported; \d+ MiB"):
        keep_copy(tmp_path / "last.ckpt", "previous.ckpt")
