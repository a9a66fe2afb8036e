"""Logs of trials: one file per trial, to which every try of it appends."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from psn_lightning.sweeps.storages import FOLDER

_MESSAGE = re.compile(r"^psn-train: (.*(?:\n  .*)*)", re.MULTILINE)


def trial_log(study: str, ticket: int) -> Path:
    """Path of the log of a trial: ``mlruns/studies/<study>/trial-007.log``."""
    return FOLDER / study / f"trial-{ticket:03d}.log"


def redirect_output(log: Path) -> None:
    """Append what this process prints to a file, including what libraries print below Python."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def read_message(log: Path) -> str | None:
    """Last message of ``psn-train`` in a log; None without one."""
    found = _MESSAGE.findall(log.read_text(errors="replace")) if log.exists() else []
    return found[-1] if found else None
