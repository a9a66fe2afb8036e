"""Downloads that fail, are killed or meet each other; files that differ from the official ones."""

import multiprocessing
import os
import shutil
import signal
import stat
import time
import zipfile
from hashlib import md5, sha256

import pytest
import requests

from psn_lightning.data.catalogue import MNISTFiles
from psn_lightning.data.dataset_files import DatasetFiles
from psn_lightning.errors import SettingError
from tests.conftest import require
from tests.data.making import pack, write_idx

PROCESSES = multiprocessing.get_context("fork")


class Files(DatasetFiles):
    title = "Test"
    folder = "target"
    names = ("a", "b")
    n_features = 4
    n_classes = 2
    official_rows = 10


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def mirror(tmp_path):
    """A folder with the files of a mirror, and their checksums."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.gz").write_bytes(pack(f"content of {name}".encode()))
    return folder, {path.name: f"md5:{md5(path.read_bytes()).hexdigest()}" for path in sorted(folder.iterdir())}


def test_a_download_leaves_the_files_and_nothing_else(tmp_path, mirror, serve):
    folder, registry = mirror
    address, sent = serve(folder)
    kind = type("Served", (Files,), {"mirrors": (address,), "registry": registry})
    files = kind(str(tmp_path))
    assert files.locate() is None
    files.download_files()
    assert listing(tmp_path / "target") == ["a.gz", "b.gz"]
    assert [path.name for path in files.locate().files] == ["a.gz", "b.gz"]
    assert all(path.stat().st_mode & stat.S_IROTH for path in files.locate().files)  # others may read them
    assert dict(sent) == {"a.gz": 1, "b.gz": 1}
    kind().download_files()
    assert kind().locate().folder == tmp_path / "cache" / "psn_lightning" / "target"


def test_mirrors_are_tried_in_turn(tmp_path, mirror, serve):
    folder, registry = mirror
    shutil.copytree(folder, tmp_path / "partial")
    (tmp_path / "partial" / "b.gz").write_bytes(b"damaged")
    (partial, sent_partial), (whole, sent) = serve(tmp_path / "partial"), serve(folder)
    kind = type("Served", (Files,), {"mirrors": ("http://127.0.0.1:9/{name}", partial, whole), "registry": registry})
    kind(str(tmp_path)).download_files()
    assert (dict(sent_partial), dict(sent)) == ({"a.gz": 1, "b.gz": 1}, {"b.gz": 1})
    assert (tmp_path / "target" / "b.gz").read_bytes() == (folder / "b.gz").read_bytes()


@pytest.mark.parametrize("mirrors", [(), ("http://127.0.0.1:9/{name}",)])
def test_without_a_mirror_the_files_and_the_folder_are_named(tmp_path, mirrors, serve):
    kind = type("Served", (Files,), {"mirrors": mirrors, "registry": {"a": "md5:0"}})
    with pytest.raises(SettingError, match=r"Test .* a, b") as caught:
        kind(str(tmp_path)).download_files()
    assert str(tmp_path / "target") in str(caught.value)
    assert listing(tmp_path / "target") == []


def test_a_wrong_checksum_is_refused(tmp_path, mirror, serve):
    kind = type("Served", (Files,), {"mirrors": (serve(mirror[0])[0],), "registry": {"a.gz": f"md5:{'0' * 32}"}})
    with pytest.raises(SettingError, match=r"a\.gz"):
        kind(str(tmp_path)).download_files()
    assert listing(tmp_path / "target") == []


@pytest.mark.parametrize(
    "error",
    [OSError("no route"), RuntimeError("bad\nsum"), requests.ConnectionError("no"), zipfile.BadZipFile("no"), None],
)
def test_a_fetch_of_ones_own_that_fails_or_lacks_a_file(tmp_path, error):
    class Own(Files):
        def fetch(self, scratch):
            (scratch / "a").write_text("half")
            if error is not None:
                raise error
            return scratch

    with pytest.raises(SettingError, match=r"Test .* a, b") as caught:
        Own(str(tmp_path)).download_files()
    assert len(str(caught.value).splitlines()) == 1
    assert listing(tmp_path / "target") == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=str(tmp_path / "file" / "target")):
        Files(str(tmp_path / "file")).download_files()


def test_several_processes_may_download_at_once(tmp_path, mirror, serve):
    folder, registry = mirror
    kind = type("Served", (Files,), {"mirrors": (serve(folder, pause=0.1)[0],), "registry": registry})
    processes = [PROCESSES.Process(target=kind(str(tmp_path)).download_files) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert listing(tmp_path / "target") == ["a.gz", "b.gz"]


class Hanging(Files):
    def fetch(self, scratch):
        (scratch / "a").write_text("half")
        (scratch / "ready").write_text("")
        time.sleep(60)


def test_a_killed_download_leaves_no_data_and_the_next_one_succeeds(tmp_path, mirror, serve):
    process = PROCESSES.Process(target=Hanging(str(tmp_path)).download_files)
    process.start()
    for _ in range(300):
        if list(tmp_path.glob("target/*/ready")):
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    folder, registry = mirror
    files = type("Served", (Files,), {"mirrors": (serve(folder)[0],), "registry": registry})(str(tmp_path))
    assert files.locate() is None
    files.download_files()
    assert files.locate() is not None


@pytest.fixture
def checked(tmp_path):
    """Ten rows in two files, with the digests of the official ones."""
    (tmp_path / "target").mkdir()
    for name in ("a", "b"):
        (tmp_path / "target" / name).write_bytes(name.encode())
    return type("Known", (Files,), {"official_digests": tuple(sha256(c).hexdigest() for c in (b"a", b"b"))})(
        str(tmp_path)
    )


def test_provenance_tells_complete_from_subset(checked, tmp_path):
    found = checked.identify(checked.locate(), 10)
    assert found == {
        "dataset.name": "Test",
        "dataset.completeness": "complete",
        "dataset.digest": sha256(b"ab").hexdigest(),
        "dataset.folder": str(tmp_path / "target"),
    }
    found = checked.identify(checked.locate(), 9)
    assert found["dataset.completeness"] == "subset"
    assert found["dataset.name"] == checked.subset_title(9) != "Test"


def test_as_many_rows_as_official_must_be_the_official_ones(checked, tmp_path):
    (tmp_path / "target" / "b").write_bytes(b"c")
    assert checked.identify(checked.locate(), 9)["dataset.completeness"] == "subset"
    with pytest.raises(SettingError, match=str(tmp_path / "target" / "b")) as caught:
        checked.identify(checked.locate(), 10)
    assert sha256(b"c").hexdigest() in str(caught.value)


def test_one_changed_label_of_mnist_is_noticed(tmp_path):
    require("mnist")
    raw = tmp_path / MNISTFiles.folder
    raw.mkdir(parents=True)
    source = MNISTFiles().locate()
    for path in source.files:
        shutil.copyfile(path, raw / path.name)
    changed = raw / source.files[3].name
    if changed.suffix != ".gz":
        content = changed.read_bytes()
        changed.write_bytes(content[:-1] + bytes([(content[-1] + 1) % 10]))
        files = MNISTFiles(str(tmp_path))
        with pytest.raises(SettingError, match=str(changed)):
            files.identify(files.locate(), 70_000)


def test_files_that_are_there_are_only_read(tmp_path):
    write_idx(tmp_path / MNISTFiles.folder, MNISTFiles.names)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    files = MNISTFiles(str(tmp_path))
    files.identify(files.locate(), sum(len(labels) for _, labels in files.read(files.locate())))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
