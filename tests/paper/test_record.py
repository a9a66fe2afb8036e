"""Record of runs: appended runs are read; damaged lines and files are named."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.paper.record import append, read
from tests.paper.report.conftest import recorded

RUN = recorded("static", "mnist", {"profile": "bell"}, 42, 98.0, curve=[97.0, 98.0])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "runs.jsonl"


def test_appended_runs_are_read(path):
    other = dataclasses.replace(RUN, seed=123)
    append(RUN, path)
    append(other, path)
    assert list(read(path).values()) == [RUN, other]


def test_a_missing_file_is_an_empty_record(path):
    assert read(path) == {}


def test_the_last_of_repeated_runs_counts(path):
    append(RUN, path)
    again = dataclasses.replace(RUN, metrics={"test/accuracy": 0.5})
    append(again, path)
    assert list(read(path).values()) == [again]


@pytest.mark.parametrize("length", [1, 50, 200])
def test_a_line_that_was_cut_short_is_skipped(path, length):
    append(RUN, path)
    whole = path.read_text()
    path.write_text(whole + whole[:length])
    other = dataclasses.replace(RUN, seed=123)
    append(other, path)
    append(RUN, path)
    with pytest.warns(UserWarning, match="line 2 "):
        assert list(read(path).values()) == [RUN, other]
    assert len(path.read_text().splitlines()) == 4


def test_a_damaged_line_is_named(path):
    append(RUN, path)
    path.write_text(json.dumps({"seed": 1}) + "\n" + path.read_text())
    with pytest.raises(SettingError, match=r"runs\.jsonl, line 1 "):
        read(path)


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (b"\0\1\xff\xfe", ""),
        (b"hello\n", ", line 1 "),
        (b"[" * 100_000, ", line 1 "),
        (b'{"seed": ' + b"9" * 5000 + b"}", ", line 1 "),
    ],
)
def test_a_file_that_is_not_a_record_is_named(path, content, culprit):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SettingError, match=rf"runs\.jsonl{culprit}"):
        read(path)


def test_a_folder_is_not_a_record(tmp_path):
    with pytest.raises(SettingError, match=f"{tmp_path} is a folder"):
        read(tmp_path)


def test_simultaneous_appends_are_all_kept(path):
    runs = [dataclasses.replace(RUN, seed=seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: append(run, path), runs))
    assert {run.seed for run in read(path).values()} == set(range(200))
    assert len(path.read_text().splitlines()) == 200
