"""A file is whole or not there."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from psn_lightning.files import atomically, write_all


def test_it_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with atomically(path) as scratch:
            assert scratch.parent == path.parent
            assert scratch.suffix == ".txt"
            scratch.write_text(text)
            assert not path.exists() or path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def write_half(path):
    with atomically(path) as scratch:
        scratch.write_text("half of the new")
        raise OSError(errno.ENOSPC, "disk full")


def test_an_error_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, sys; from psn_lightning.files import atomically, write_all\n"
        "with atomically(sys.argv[1]) as scratch:\n"
        "    scratch.write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_text() == "old"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_others_may_read_what_the_umask_lets_them(mask, tmp_path):
    before = os.umask(mask)
    try:
        with atomically(tmp_path / "a.txt") as scratch:
            scratch.write_text("text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_two_writers_leave_the_file_of_one(tmp_path):
    path, texts = tmp_path / "a.txt", ["a" * 100_000, "b" * 100_000]

    def write(text):
        for _ in range(20):
            with atomically(path) as scratch:
                scratch.write_text(text)
            assert path.read_text() in texts

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


class NearlyFull:
    """A disk with room for some bytes more, as an unbuffered file shows it."""

    def __init__(self, room):
        self.room, self.content = room, b""

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data[: min(self.room, 3)])
        self.room -= len(taken)
        self.content += taken
        return len(taken)


def test_a_write_that_is_taken_in_part_goes_on_or_fails():
    disk = NearlyFull(room=20)
    write_all(disk, b"0123456789")
    assert disk.content == b"0123456789"
    with pytest.raises(OSError, match="No space"):
        write_all(disk, b"0123456789a")
