"""Every way in which files can be bad is told in a few lines that name the file and the remedy, and exits with 2."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest

from psn_lightning.cli import main
from psn_lightning.data import MNIST, ForestCover, tables
from psn_lightning.data.digests import SUMS
from psn_lightning.errors import SettingError
from tests.data.making import covertype_lines, idx, write_covertype, write_idx

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = MNIST.names


def content(name, data):
    """Put bytes into a file."""
    return lambda raw: (raw / name).write_bytes(data)


def swap(one, other):
    def change(raw):
        (raw / one).rename(raw / "held")
        (raw / other).rename(raw / one)
        (raw / "held").rename(raw / other)

    return change


def instead(name, make):
    """Something else in the place of a file."""

    def change(raw):
        (raw / name).unlink()
        make(raw / name)

    return change


def lines(*more, of=covertype_lines):
    return lambda raw: write_covertype(raw, [*of(), *more])


def columns(which, *values):
    """Rows that have these in a column, in turn."""
    rows = [line.split(",") for line in covertype_lines()]
    for number, row in enumerate(rows):
        row[which] = values[number % len(values)]
    return [",".join(row) for row in rows]


ROW = covertype_lines(1)[0].split(",")

DAMAGE = {
    "empty": ("mnist", content(IMAGES, b""), IMAGES, "ends within the IDX header"),
    "truncated": ("mnist", content(LABELS, idx(np.zeros(30))[:-1]), LABELS, "only 29 follow"),
    "too long": ("mnist", content(LABELS, idx(np.zeros(30)) + b"x"), LABELS, "more follow"),
    "a page": ("mnist", content(TEST_IMAGES, b"<html>not found</html>"), TEST_IMAGES, "no IDX file"),
    "images and labels swapped": ("mnist", swap(IMAGES, LABELS), IMAGES, "swapped"),
    "training and test images swapped": ("mnist", swap(IMAGES, TEST_IMAGES), LABELS, "30 labels for 10 images"),
    "training and test labels swapped": ("mnist", swap(LABELS, TEST_LABELS), LABELS, "10 labels for 30 images"),
    "white images": ("mnist", content(IMAGES, idx(np.full((30, 28, 28), 255))), "", "standard deviation 0 over the 30"),
    "no rows": ("mnist", content(IMAGES, idx(np.zeros((0, 28, 28)))), IMAGES, "(0, 28, 28)"),
    "other images": ("mnist", content(TEST_IMAGES, idx(np.zeros((10, 32, 32)))), TEST_IMAGES, "(10, 32, 32)"),
    "as many pixels": ("mnist", content(TEST_IMAGES, idx(np.zeros((10, 14, 56)))), TEST_IMAGES, "(10, 14, 56)"),
    "labels out of range": ("mnist", content(TEST_LABELS, idx(np.arange(10) + 1)), TEST_LABELS, "outside 0 … 9 (10)"),
    "a folder": ("mnist", instead(LABELS, lambda path: path.mkdir()), LABELS, "not a file but a folder"),
    "a broken link": ("mnist", instead(LABELS, lambda path: path.symlink_to("x")), LABELS, "a link to nothing"),
    "a circle": ("mnist", instead(LABELS, lambda path: path.symlink_to(LABELS)), LABELS, "Too many levels"),
    "a tampered file": ("mnist", content(SUMS, b"0" * 64 + b"  " + IMAGES.encode()), IMAGES, "tampered"),
    "no list": ("mnist", content(SUMS, b"<html>"), SUMS, "not a list of sha256sum"),
    "a list that is a folder": ("mnist", lambda raw: (raw / SUMS).mkdir(), SUMS, "not a file but a folder"),
    "gzip that is none": ("forest", content(ForestCover.names[0], b"not gzip"), "covtype", "not a complete gzip file"),
    "gzip that is cut": (
        "forest",
        content(ForestCover.names[0], gzip.compress("\n".join(covertype_lines(5000)).encode(), mtime=0)[:-20]),
        "covtype",
        "not a complete gzip file",
    ),
    "an empty table": ("forest", content(ForestCover.names[0], b""), "covtype", "0 columns, expected 55"),
    "53 columns": ("forest", lines(of=lambda: covertype_lines(columns=53)), "covtype", "53 columns, expected 55"),
    "54 columns": ("forest", lines(of=lambda: covertype_lines(columns=54)), "covtype", "54 columns, expected 55"),
    "a row of 53 columns": ("forest", lines(",".join(ROW[:53])), "covtype", "missing or infinite values"),
    "a row of 56 columns": ("forest", lines(",".join([*ROW, "1"])), "covtype", "Expected 55 fields"),
    "NaN": ("forest", lines(",".join(["nan", *ROW[1:]])), "covtype", "missing or infinite values"),
    "infinity": ("forest", lines(",".join(["1e99", *ROW[1:]])), "covtype", "missing or infinite values"),
    "text": ("forest", lines(",".join(["x", *ROW[1:]])), "covtype", "cannot be read"),
    "label 0": ("forest", lines(",".join([*ROW[:-1], "0"])), "covtype", "labels outside 1 … 7"),
    "label 8, once": ("forest", lines(",".join([*ROW[:-1], "8"])), "covtype", "labels outside 1 … 7"),
    "label 1.5": ("forest", lines(",".join([*ROW[:-1], "1.5"])), "covtype", "labels outside 1 … 7"),
    "a constant column": (
        "forest",
        lines(of=lambda: columns(3, "7")),
        "",
        "mean 7 and standard deviation 0 of column 4",
    ),
    "numbers of 38 digits": (
        "forest",
        lines(of=lambda: columns(0, "1e38", "2e38")),
        "",
        "mean inf and standard deviation",
    ),
    "too few rows": ("forest", lines(of=lambda: covertype_lines(7)), "covtype", "cannot be held out"),
    "a line without end": ("forest", lines("1," * 99_999), "covtype", "a line of more than"),
}


def ready(root, dataset):
    """Sound files of a data set; their folder."""
    if dataset == "mnist":
        write_idx(root / MNIST.folder, MNIST.names)
        return root / MNIST.folder
    write_covertype(root / ForestCover.folder, covertype_lines())
    return root / ForestCover.folder


def data_command(root, dataset, capsys):
    """Exit code, output and the lines of the error."""
    code = main(["data", dataset, "--data_dir", str(root)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.strip().splitlines()


@pytest.mark.parametrize("dataset", ["mnist", "forest"])
def test_sound_files_are_not_damaged(tmp_path, dataset, capsys):
    folder = ready(tmp_path, dataset)
    code, out, told = data_command(tmp_path, dataset, capsys)
    assert (code, told) == (0, [])
    assert "damaged" not in out
    assert "subset" in out
    assert folder.is_dir()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told(name, tmp_path, capsys):
    dataset, change, file, message = DAMAGE[name]
    folder = ready(tmp_path, dataset)
    change(folder)
    code, out, told = data_command(tmp_path, dataset, capsys)
    assert code == 2
    assert "damaged" in out
    assert 1 <= len(told) <= 3
    assert told[0].startswith("psn-train: ")
    text = " ".join(told)
    assert text.count(f"{folder}/{file}" if file else str(folder)) == 1
    assert message in text
    assert any(
        remedy in text
        for remedy in ("etch it again", "etch the files again", "etch both", "remove it", "another data folder")
    )


@pytest.fixture
def unprivileged():
    """For the length of a test, permissions bind even root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_folder_without_permission(tmp_path, capsys, request):
    folder = ready(tmp_path, "mnist")
    folder.chmod(0)
    request.getfixturevalue("unprivileged")
    code, out, told = data_command(tmp_path, "mnist", capsys)
    assert code == 2
    assert "damaged" in out
    assert len(told) <= 3
    assert f"{folder}/{IMAGES} cannot be read: Permission denied; check links and permissions" in " ".join(told)


def test_short_rows_are_bounded_in_number(tmp_path, monkeypatch):
    """A byte of a short row becomes a hundred in memory."""
    assert ForestCover.official_rows < tables._MOST_ROWS <= 1_000_000
    monkeypatch.setattr(tables, "_MOST_ROWS", 1000)
    write_covertype(tmp_path / ForestCover.folder, [*covertype_lines(1000), "1"])
    with pytest.raises(SettingError, match="more than 1000 rows"):
        ForestCover(data_dir=str(tmp_path), download=False).setup()
    write_covertype(tmp_path / ForestCover.folder, [covertype_lines(1)[0], *["1"] * 2_000_000])
    tracemalloc.start()
    try:
        with pytest.raises(SettingError, match="more than 1000 rows"):
            ForestCover(data_dir=str(tmp_path), download=False).setup()
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_the_first_of_several_is_told_and_all_are_shown(tmp_path, capsys):
    for dataset, name in (("mnist", "empty"), ("forest", "NaN")):
        DAMAGE[name][1](ready(tmp_path, dataset))
    assert main(["data", "mnist", "digits", "forest", "--data_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("damaged") == 2
    assert "Digits" in captured.out
    assert IMAGES in captured.err


def test_a_download_that_fails_is_no_damage(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "MNIST").write_text("in the way")
    assert main(["data", "mnist", "--download", "--data_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "not found" in captured.out
    assert "damaged" not in captured.out
    assert "could not be downloaded" in captured.err
