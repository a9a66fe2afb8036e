"""Files that are no longer what they were."""

import gzip
import hashlib
import shutil
import subprocess

import pytest

from psn_lightning.data import MNIST, FashionMNIST
from psn_lightning.data.digests import SUMS, verify_sums, write_sums
from psn_lightning.data.sources import Source, find
from psn_lightning.errors import SettingError
from tests.conftest import require
from tests.data.making import write_idx


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"packed", mtime=0))
    return find([tmp_path], ["a", "b"])


def test_the_list_holds_for_files_as_they_lie_and_sha256sum_reads_it(files):
    write_sums(files.folder, files.files)
    verify_sums(files)
    command = ["sha256sum", "--check", "--strict", SUMS]
    told = subprocess.run(command, cwd=files.folder, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["a: OK", "b.gz: OK"]


def test_a_list_that_sha256sum_wrote_is_read(files):
    with (files.folder / SUMS).open("w") as file:
        subprocess.run(["sha256sum", "--binary", "a", "b.gz"], cwd=files.folder, stdout=file, check=True)
    verify_sums(files)
    (files.folder / "a").write_bytes(b"Content")
    with pytest.raises(SettingError):
        verify_sums(files)


@pytest.mark.parametrize("name", ["a", "b.gz"])
def test_another_byte_is_told_with_both_digests(files, name):
    write_sums(files.folder, files.files)
    path = files.folder / name
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"!")
    with pytest.raises(SettingError, match="tampered") as caught:
        verify_sums(files)
    for expected in (str(path), hashlib.sha256(before).hexdigest(), hashlib.sha256(path.read_bytes()).hexdigest()):
        assert expected in str(caught.value)
    assert "delete it and fetch it again" in str(caught.value)


def test_without_a_list_nothing_is_asked(files):
    verify_sums(files)


def test_a_file_that_the_list_leaves_out(files):
    write_sums(files.folder, files.files[:1])
    with pytest.raises(SettingError, match=r"b\.gz is not listed in SHA256SUMS"):
        verify_sums(files)


def test_lines_about_other_files_are_kept(files):
    write_sums(files.folder, files.files[:1])
    write_sums(files.folder, files.files[1:])
    verify_sums(files)


@pytest.mark.parametrize("content", ["", "deadbeef  a\n", "<html>", "\0" * 100, f"{'0' * 64}\n"])
def test_a_damaged_list_is_told(files, content):
    (files.folder / SUMS).write_text(content)
    with pytest.raises(SettingError, match="SHA256SUMS is not a list of sha256sum; delete it"):
        verify_sums(files)


def test_loading_asks_the_list(tmp_path):
    write_idx(tmp_path / MNIST.folder, MNIST.names)
    data = MNIST(data_dir=str(tmp_path), download=False)
    write_sums(data.locate().folder, data.locate().files)
    MNIST(data_dir=str(tmp_path), download=False).setup()
    path = data.locate().files[2]
    content = bytearray(path.read_bytes())
    content[500] ^= 1  # a pixel, a little
    path.write_bytes(content)
    with pytest.raises(SettingError, match="t10k-images-idx3-ubyte is damaged or was tampered with"):
        data.setup()


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_the_complete_sets_are_the_published_ones(kind):
    require("mnist" if kind is MNIST else "fashion")
    assert kind().locate().digests()[1] == kind.official_digests


def test_as_many_rows_as_published_must_be_the_published_ones(tmp_path):
    require("mnist")
    raw = tmp_path / MNIST.folder
    raw.mkdir(parents=True)
    for path in MNIST().locate().files:
        if path.suffix == ".gz":
            raw.joinpath(path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, raw / path.name)
    MNIST(data_dir=str(tmp_path), download=False).setup()
    path = raw / MNIST.names[3]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([(content[-1] + 1) % 10]))  # one label of one row
    with pytest.raises(SettingError, match="as many rows as published") as caught:
        MNIST(data_dir=str(tmp_path), download=False).setup()
    assert str(path) in str(caught.value)
    assert MNIST.official_digests[3] in str(caught.value)
    assert Source((path,)).digests()[0] in str(caught.value)
