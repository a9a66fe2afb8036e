"""An outbox survives a kill, a full disk and a second process."""

import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.tracking.outbox import BusyError, Outbox, QueuedRun, find_outboxes

RUN = QueuedRun("http://127.0.0.1:9", "e", "r1", "name", {"k": "v"}, 7, None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox" / "r1.db"


@pytest.fixture
def outbox(path):
    return Outbox(path, RUN)


def drain(outbox):
    """Contents of all operations, which are removed."""
    contents = []
    while (operation := outbox.first()) is not None:
        contents.append(operation.content)
        outbox.remove(operation)
    return contents


def test_operations_keep_their_order(outbox):
    for i in range(5):
        outbox.put("tags", tags={"i": str(i)})
    assert len(outbox) == 5
    assert [content["tags"]["i"] for content in drain(outbox)] == list("01234")
    assert outbox.first() is None


def test_values_are_kept_exactly(outbox):
    values = [0.1 + 0.2, float("inf"), -0.0, 5e-324]
    outbox.put("metrics", metrics=[["a", value, 0, step] for step, value in enumerate(values)])
    (content,) = drain(outbox)
    assert [metric[1] for metric in content["metrics"]] == values


def test_the_next_process_finds_what_is_left(outbox, path, tmp_path):
    for i in range(3):
        outbox.put("tags", tags={"i": str(i)})
    outbox.remove(outbox.first())
    outbox.close()
    assert find_outboxes(tmp_path) == [path]
    again = Outbox(path)
    assert again.run == RUN
    again.set_run_id("r2")
    again.close()
    with closing(Outbox(path, RUN)) as third:
        assert third.run.run_id == "r2"
        assert [content["tags"]["i"] for content in drain(third)] == ["1", "2"]


def test_an_empty_outbox_is_deleted(outbox, path):
    outbox.put_file(Path(__file__), Path())
    drain(outbox)
    outbox.close()
    assert not list(path.parent.iterdir())
    with pytest.raises(FileNotFoundError):
        Outbox(path)
    assert not path.exists()


def test_one_process_at_a_time(outbox, path):
    with pytest.raises(BusyError, match="under way"):
        Outbox(path)


def put_and_die(path):
    outbox = Outbox(path, RUN)
    outbox.put("tags", tags={"a": "1"})
    outbox._database.execute("BEGIN")
    outbox._database.execute("INSERT INTO operations (kind, content) VALUES ('tags', '{}')")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_leaves_what_it_put_and_releases_the_outbox(path):
    """The kill comes within the second operation, which is left out."""
    process = multiprocessing.get_context("fork").Process(target=put_and_die, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with closing(Outbox(path)) as outbox:
        outbox.put("params", params={"b": "2"})
        assert drain(outbox) == [{"tags": {"a": "1"}}, {"params": {"b": "2"}}]


def test_a_process_killed_while_it_created_the_outbox_leaves_nothing(path):
    path.parent.mkdir()
    path.touch()
    with pytest.raises(FileNotFoundError):
        Outbox(path)
    assert not path.exists()


def test_files_are_taken_as_they_are_now(outbox, tmp_path):
    (tmp_path / "last.ckpt").write_text("old")
    (tmp_path / "link.ckpt").symlink_to(tmp_path / "last.ckpt")
    outbox.put_file(tmp_path / "link.ckpt", Path("checkpoints"))
    new = tmp_path / "new"
    new.write_text("new")
    new.replace(tmp_path / "last.ckpt")  # as checkpoints are written
    outbox.put_file(tmp_path / "last.ckpt", Path())
    operations = drain(outbox)
    assert [operation["folder"] for operation in operations] == ["checkpoints", "."]
    files = [outbox.path.parent / operation["file"] for operation in operations]
    assert [file.name for file in files] == ["link.ckpt", "last.ckpt"]
    assert [file.read_text() for file in files] == ["old", "new"]


def test_a_refused_operation_stays_and_is_in_nobodys_way(outbox, path):
    outbox.put("metrics", metrics=[["a@b", 1.0, 1, 0]])
    outbox.put("tags", tags={})
    outbox.refuse(outbox.first(), "no such name")
    assert drain(outbox) == [{"tags": {}}]
    outbox.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT kind, refused FROM operations").fetchall() == [("metrics", "no such name")]


@pytest.mark.parametrize("content", [b"garbage" * 100, b"SQLite format 3\0" + b"x" * 500])
def test_a_damaged_one_is_named(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"r1\.db is damaged or not an outbox"):
        Outbox(path)


def test_only_its_owner_may_read_it(outbox, path):
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_full_disk_leaves_what_is_there(outbox):
    outbox.put("tags", tags={})
    pages = outbox._database.execute("PRAGMA page_count").fetchone()[0]
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SettingError, match=r"outbox .* cannot be written \(No space left on device"):
        outbox.put("params", params={"long": "x" * 10_000})
    assert drain(outbox) == [{"tags": {}}]


def test_a_place_where_none_can_be_is_named(path):
    path.parent.write_text("a file in the folder's place")
    with pytest.raises(SettingError, match=r"r1\.db, cannot be written \(File exists"):
        Outbox(path, RUN)


def test_a_folder_that_cannot_take_files_is_named(outbox, tmp_path):
    (tmp_path / "outbox" / "r1").write_text("a file in the folder's place")
    with pytest.raises(SettingError, match=r"outbox .* cannot be written"):
        outbox.put_file(tmp_path / "outbox" / "r1", Path())


def test_what_is_left_is_counted(outbox):
    outbox.put("metrics", metrics=[["a", 1.0, 0, 0], ["b", 1.0, 0, 0]])
    outbox.put("metrics", metrics=[["a", 1.0, 0, 1]])
    outbox.put("end", status="FINISHED", killed=None, time=0)
    assert outbox.left() == {"metrics": 3, "end": 1}
