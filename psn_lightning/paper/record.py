"""Record of the runs of reproductions: ``results/runs.jsonl``, one line for each finished run."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import warnings
from pathlib import Path

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import write_all
from psn_lightning.paper.recorded_run import RecordedRun

RECORD = Path("results") / "runs.jsonl"
"""Default file of the record."""


def read(path: Path = RECORD) -> dict[str, RecordedRun]:
    """Read a record; of repeated runs, the last one counts.

    A line that was cut short, by a full disk or a power cut, is skipped with a warning, so that its run is repeated.

    Args:
        path: File of the record; a missing file is an empty record.

    Returns:
        Runs by key.

    Raises:
        SettingError: If the file is not a record, or a line is damaged in another way.
    """
    runs: dict[str, RecordedRun] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        try:
            run = RecordedRun(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and line[:1] in {"", "{", "\0"}:
                warnings.warn(
                    f"{path}, line {number} was cut short ({error}) and is skipped: its run counts as not done",
                    stacklevel=2,
                )
                continue
            raise SettingError(
                f"{path}, line {number} is damaged ({in_one_line(error)}): delete the line, and psn-train "
                "reproduce repeats the run"
            ) from error
        runs[run.key] = run
    return runs


def _read_lines(path: Path) -> list[str]:
    """Read the lines of a record.

    Raises:
        SettingError: If the path is a folder, or the file cannot be read as text.
    """
    try:
        if path.is_dir():
            raise SettingError(f"{path} is a folder, not a record: give a file, such as {RECORD}")
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read as a record ({in_one_line(error)}): give another file") from error


def append(run: RecordedRun, path: Path = RECORD) -> None:
    """Append a run to a record, in one write and under a lock: other processes may append at the same time.

    Args:
        run: Run to append.
        path: File of the record; created if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dataclasses.asdict(run)) + "\n"
    with path.open("ab+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        file.seek(0, os.SEEK_END)
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            line = f"\n{line}"  # the previous line was cut short
        write_all(file, line.encode())
        os.fsync(file.fileno())
