"""Downloads that fail, are killed, or meet each other."""

import multiprocessing
import os
import signal
import time
import zipfile
from hashlib import md5
from http.client import IncompleteRead
from pathlib import Path

import pytest
from torchvision import datasets

from psn_lightning.data import MNIST, downloads
from psn_lightning.data.digests import SUMS, verify_sums
from psn_lightning.data.downloads import fetch_into
from psn_lightning.data.sources import find
from psn_lightning.errors import SettingError
from tests.data.making import write_idx

PROCESSES = multiprocessing.get_context("fork")  # torch is loaded already


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(*files):
    def fetch(scratch: Path) -> Path:
        for name in files:
            (scratch / name).write_text(f"content of {name}")
        return scratch

    return fetch


def test_finished_files_are_moved_in_and_nothing_else(tmp_path):
    def fetch(scratch: Path) -> Path:
        (scratch / "deep").mkdir()
        (scratch / "deep" / "a").write_text("content")
        (scratch / "rubbish").write_text("")
        return scratch / "deep"

    fetch_into(tmp_path / "target", ["a"], fetch, "Test")
    assert names(tmp_path / "target") == [".lock", SUMS, "a"]
    assert (tmp_path / "target" / "a").read_text() == "content"
    verify_sums(find([tmp_path / "target"], ["a"]))


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        RuntimeError("bad\nchecksum"),
        ValueError("hash differs"),
        IncompleteRead(b""),
        zipfile.BadZipFile("no zip"),
        EOFError(),
    ],
)
def test_a_failed_fetch_names_the_remedy_and_leaves_nothing(tmp_path, error):
    def fetch(scratch: Path) -> Path:
        (scratch / "a.part").write_text("half")
        raise error

    with pytest.raises(SettingError, match=r"Test could not be downloaded.*\(.+\).*put a there by hand") as caught:
        fetch_into(tmp_path / "target", ["a"], fetch, "Test")
    assert len(str(caught.value).splitlines()) == 1
    assert names(tmp_path / "target") == [".lock"]


def test_a_fetch_that_lacks_a_file(tmp_path):
    with pytest.raises(SettingError, match="lacks some of a, b"):
        fetch_into(tmp_path / "target", ["a", "b"], write("a"), "Test")
    assert names(tmp_path / "target") == [".lock"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="could not be downloaded"):
        fetch_into(tmp_path / "file" / "target", ["a"], write("a"), "Test")


@pytest.fixture
def mirror(tmp_path, monkeypatch, serve):
    """A slow mirror of a small MNIST; how often each file was sent."""
    write_idx(tmp_path / "mirror", MNIST.names, gz=True)
    address, sent = serve(tmp_path / "mirror", pause=0.1)
    resources = [(f.name, md5(f.read_bytes()).hexdigest()) for f in sorted((tmp_path / "mirror").iterdir())]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return sent


def test_of_several_processes_one_downloads(tmp_path, mirror):
    MNIST(data_dir=str(tmp_path / "alone")).prepare_data()
    one_download = dict(mirror)
    mirror.clear()

    def prepare():
        data = MNIST(data_dir=str(tmp_path))
        data.prepare_data()
        data.setup()

    processes = [PROCESSES.Process(target=prepare) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(one_download) == 4
    assert dict(mirror) == one_download
    assert names(tmp_path / MNIST.folder) == sorted([".lock", SUMS, *MNIST.names])


def hang(target, told):
    def fetch(scratch: Path) -> Path:
        write("a")(scratch)  # b is still to come
        told.set()
        time.sleep(60)
        return scratch

    fetch_into(target, ["a", "b"], fetch, "Test")


@pytest.fixture
def hanging(tmp_path):
    """A process in the middle of a download to ``tmp_path``."""
    told = PROCESSES.Event()
    process = PROCESSES.Process(target=hang, args=(tmp_path, told))
    process.start()
    assert told.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_killed_download_leaves_nothing_that_is_taken_for_data(tmp_path, hanging):
    os.kill(hanging.pid, signal.SIGKILL)
    hanging.join()
    assert find([tmp_path], ["a", "b"]) is None
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(left) == 1  # the scratch folder of the dead
    fetch_into(tmp_path, ["a", "b"], write("a", "b"), "Test")
    assert names(tmp_path) == [".lock", SUMS, "a", "b"]


def test_waiting_for_another_process_has_an_end(tmp_path, hanging, monkeypatch):
    monkeypatch.setattr(downloads, "_PATIENCE", 0.3)
    with pytest.raises(SettingError, match=r"another process has been downloading Test to .* 0\.3 seconds") as caught:
        fetch_into(tmp_path, ["a", "b"], write("a", "b"), "Test")
    assert str(tmp_path) in str(caught.value)
    assert hanging.is_alive()
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 1  # the scratch folder of the living is left alone


def test_files_that_a_cut_move_has_mixed_are_noticed(tmp_path):
    (tmp_path / "c").write_text("of an older download")

    def fetch(scratch: Path) -> Path:
        (tmp_path / "b" / "full").mkdir(parents=True)  # stops the moving at b
        return write("a", "b", "c")(scratch)

    with pytest.raises(SettingError, match="could not be downloaded"):
        fetch_into(tmp_path, ["a", "b", "c"], fetch, "Test")
    assert (tmp_path / "a").exists()
    (tmp_path / "b" / "full").rmdir()
    (tmp_path / "b").rmdir()
    assert find([tmp_path], ["a", "b", "c"]) is None
    write("b")(tmp_path)
    with pytest.raises(SettingError, match=r"/c is damaged"):
        verify_sums(find([tmp_path], ["a", "b", "c"]))


def test_data_that_are_there_are_only_read(tmp_path):
    write_idx(tmp_path / MNIST.folder, MNIST.names)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path / MNIST.folder, *tmp_path.rglob("*")]}
    data = MNIST(data_dir=str(tmp_path))
    data.prepare_data()
    data.setup()
    assert {path: path.stat().st_mtime_ns for path in [tmp_path / MNIST.folder, *tmp_path.rglob("*")]} == before
