"""What is in a spool survives a kill, a full disk, and being tampered with."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.tracking.spool import BusyError, Spool, SpooledRun, spools, whose

RUN = SpooledRun("sqlite:///mlruns/mlflow.db", "e", "r1", "name", {"k": "v"}, 7)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool" / "r1", RUN)


def operations(spool):
    return [operation for operation, _ in spool.pending()]


def test_what_is_put_in_comes_out_in_order(spool):
    for i in range(5):
        spool.append({"do": "tags", "tags": {"i": str(i)}})
    assert [operation["tags"]["i"] for operation in operations(spool)] == list("01234")
    positions = [position for _, position in spool.pending()]
    spool.mark(positions[2])
    assert [operation["tags"]["i"] for operation in operations(spool)] == ["3", "4"]
    assert not spool.empty
    spool.mark(positions[-1])
    assert spool.empty


def test_the_next_process_finds_what_is_left(spool, tmp_path):
    for i in range(3):
        spool.append({"do": "tags", "tags": {"i": str(i)}})
    spool.mark(next(position for _, position in spool.pending()))
    spool.close()
    assert spools(tmp_path) == [spool.folder]
    again = Spool(spool.folder)
    assert again.run == whose(spool.folder) == RUN
    assert [operation["tags"]["i"] for operation in operations(again)] == ["1", "2"]


def test_one_process_at_a_time(spool):
    with pytest.raises(BusyError, match="under way"):
        Spool(spool.folder)
    spool.close()
    Spool(spool.folder).close(remove=True)
    assert not spool.folder.exists()


def test_a_killed_process_gives_it_free_and_leaves_what_it_put_in(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from psn_lightning.tracking.spool import Spool, SpooledRun\n"
        "spool = Spool(Path(sys.argv[1]), SpooledRun('u', 'e', 'r'))\n"
        "spool.append({'do': 'tags', 'tags': {}})\n"
        'spool._file.write(b\'{"do": "met\')\n'  # in the middle of the next one
        "os.kill(os.getpid(), 9)"
    )
    folder = tmp_path / "spool" / "r"
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == -signal.SIGKILL
    spool = Spool(folder)
    assert operations(spool) == [{"do": "tags", "tags": {}}]
    spool.append({"do": "params", "params": {}})
    assert [operation["do"] for operation in operations(spool)] == ["tags", "params"]


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 400), values=st.lists(st.floats(allow_nan=False), min_size=1, max_size=8))
def test_a_cut_anywhere_loses_the_last_operation_at_most_in_part(cut, values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s") / "r"
    spool = Spool(folder, RUN)
    for step, value in enumerate(values):
        spool.append({"do": "metrics", "metrics": [["a", value, 0, step]]})
    spool.close()
    path = folder / "operations.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content))])
    whole = content[: min(cut, len(content))].count(b"\n")
    kept = operations(Spool(folder))
    assert [operation["metrics"][0][1] for operation in kept] == values[:whole]


def test_files_are_taken_as_they_are_now(spool, tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (tmp_path / "last.ckpt").write_text("old")
    (source / "deep" / "last.ckpt").symlink_to(tmp_path / "last.ckpt")
    (source / "a.txt").write_text("a")
    spool.add_files(source)
    new = tmp_path / "new"
    new.write_text("new")
    new.replace(tmp_path / "last.ckpt")  # as checkpoints are written
    folders = [spool.files_of(operation) for operation in operations(spool)]  # one for each: each is progress
    taken = [{str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.*")} for folder in folders]
    assert taken == [{"a.txt": "a"}, {"deep/last.ckpt": "old"}]


@pytest.mark.parametrize("name", ["..", "/etc", "../../x", "1/..", "", "٤", "4"])
def test_a_folder_elsewhere_is_refused(spool, name):
    (spool.folder / "files" / "٤").mkdir(parents=True)
    with pytest.raises(ValueError, match="is no folder of"):
        spool.files_of({"do": "artifacts", "folder": name})


@pytest.mark.parametrize("place", ["files", "files/5", "files/5/deep", "files/5/secret.txt"])
def test_links_that_lead_elsewhere_are_refused(place, spool, tmp_path):
    (tmp_path / "elsewhere" / "5" / "deep").mkdir(parents=True)
    link = spool.folder / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere" / ("5" if place == "files/5" else ""))
    with pytest.raises(ValueError, match="is a link"):
        spool.files_of({"do": "artifacts", "folder": "5"})


@pytest.mark.parametrize("run_id", ["offline-/../../victim", "..", "", "a/b", "a\n", "é", 7, ["x"]])
def test_an_id_that_would_lead_elsewhere_is_refused(run_id, tmp_path):
    folder = tmp_path / "spool" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"uri": "u", "experiment": "e", "run_id": run_id}))
    with pytest.raises(ValueError, match="is no id of a run"):
        whose(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", '{"uri": 1}'),
        ("run.json", "[]"),
        ("delivered", "x"),
        ("delivered", "-5"),
        ("delivered", "5"),
        ("run.json", '{"uri": 3, "experiment": "e", "run_id": null}'),
        ("operations.jsonl", "garbage\n"),
    ],
)
def test_a_damaged_one_is_named(spool, file, content):
    spool.close()
    (spool.folder / file).write_text(content)
    with pytest.raises(SettingError, match="is no spool of a run, or damaged"):
        list(Spool(spool.folder).pending())


def test_only_its_owner_may_read_it(spool):
    assert spool.folder.stat().st_mode & 0o077 == 0


def test_a_full_disk_leaves_what_is_there(spool, monkeypatch):
    spool.append({"do": "tags", "tags": {}})

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            spool.append({"do": "params", "params": {}})
    assert operations(spool) == [{"do": "tags", "tags": {}}]
    assert Path(spool.folder / "operations.jsonl").read_text() == json.dumps({"do": "tags", "tags": {}}) + "\n"


def test_what_is_left_is_counted(spool):
    spool.append({"do": "metrics", "metrics": [["a", 1.0, 0, 0], ["b", 1.0, 0, 0]]})
    spool.append({"do": "metrics", "metrics": [["a", 1.0, 0, 1]]})
    spool.append({"do": "ends", "status": "FINISHED"})
    assert spool.left() == {"metrics": 3, "ends": 1}
