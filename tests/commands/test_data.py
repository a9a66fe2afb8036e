"""``psn-train data``: each damage is told in a few lines that name the file, with exit code 2."""

import numpy as np
import pytest

from psn_lightning.cli import main
from psn_lightning.data.catalogue import CATALOGUE, ForestCoverFiles, MNISTFiles
from tests.data.making import covertype_lines, idx, write_covertype, write_idx

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = MNISTFiles.names
TABLE = ForestCoverFiles.names[0]


def write(name, content):
    return lambda raw: (raw / name).write_bytes(content)


def swap(one, other):
    def change(raw):
        (raw / one).rename(raw / "held")
        (raw / other).rename(raw / one)
        (raw / "held").rename(raw / other)

    return change


def put_instead(name, make):
    def change(raw):
        (raw / name).unlink()
        make(raw / name)

    return change


DAMAGE = {
    "empty": ("mnist", write(IMAGES, b""), IMAGES),
    "truncated": ("mnist", write(LABELS, idx(np.zeros(30))[:-1]), LABELS),
    "a page": ("mnist", write(TEST_IMAGES, b"<html>not found</html>"), TEST_IMAGES),
    "images and labels swapped": ("mnist", swap(IMAGES, LABELS), IMAGES),
    "training and test images swapped": ("mnist", swap(IMAGES, TEST_IMAGES), LABELS),
    "training and test labels swapped": ("mnist", swap(LABELS, TEST_LABELS), LABELS),
    "labels out of range": ("mnist", write(TEST_LABELS, idx(np.arange(10) + 1)), TEST_LABELS),
    "a folder": ("mnist", put_instead(LABELS, lambda path: path.mkdir()), LABELS),
    "a broken link": ("mnist", put_instead(LABELS, lambda path: path.symlink_to("x")), LABELS),
    "not gzip": ("forest", write(TABLE, b"not gzip"), TABLE),
    "54 columns": ("forest", lambda raw: write_covertype(raw, covertype_lines(columns=54)), TABLE),
}


def make_files(root, name):
    """Write sound files of a data set and return their folder."""
    folder = root / CATALOGUE[name].folder
    if name == "mnist":
        write_idx(folder, MNISTFiles.names)
    else:
        write_covertype(folder, covertype_lines())
    return folder


@pytest.mark.parametrize(("name", "rows"), [("mnist", ["train 30", "test 10"]), ("forest", ["200"])])
def test_sound_files_are_listed_with_their_rows(tmp_path, name, rows, capsys):
    make_files(tmp_path, name)
    assert main(["data", name, "--data_dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "damaged" not in captured.out
    assert "subset" in captured.out
    assert all(text in captured.out for text in rows)


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_told(what, tmp_path, capsys):
    name, change, culprit = DAMAGE[what]
    folder = make_files(tmp_path, name)
    change(folder)
    assert main(["data", name, "--data_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "damaged" in captured.out
    assert len(captured.err.strip().splitlines()) <= 3
    assert captured.err.count(f"{folder}/{culprit}") == 1


def test_all_data_sets_are_listed_and_the_first_error_is_told(tmp_path, capsys):
    for what in ("empty", "54 columns"):
        name, change, _ = DAMAGE[what]
        change(make_files(tmp_path, name))
    assert main(["data", "mnist", "digits", "forest", "--data_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("damaged") == 2
    assert "Digits" in captured.out
    assert IMAGES in captured.err
    assert TABLE not in captured.err


def test_a_missing_set_is_no_error_and_is_not_downloaded(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["data", "mnist", "emnist"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("not found") == 2
    assert str(tmp_path) in captured.out.replace("\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_is_not_damage(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "MNIST").write_text("in the way")
    assert main(["data", "mnist", "--download", "--data_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "not found" in captured.out
    assert "damaged" not in captured.out
    assert str(tmp_path / MNISTFiles.folder) in captured.err


def test_an_unknown_name(capsys):
    assert main(["data", "mnits"]) == 2
    assert "'mnits'" in capsys.readouterr().err
