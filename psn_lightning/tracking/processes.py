"""Which process does something, so that others can tell whether it is alive."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

_CLOCK_SECONDS = 10.0  # by so much a process's start may seem to move when the clock is set


def host() -> str:
    """This machine, or container on it: where process ids are unique."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink()}" if namespace.exists() else socket.gethostname()


def identity() -> dict[str, Any]:
    """This process."""
    return {"host": host(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def as_process(text: str) -> dict[str, Any] | None:
    """What :func:`identity` said, from its JSON; None where it is none: anybody may write a run's tags."""
    try:
        told = json.loads(text)
        return {"host": str(told["host"]), "pid": int(told["pid"]), "started": float(told["started"])}
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def is_dead(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine is gone; of another machine's nothing is known.

    Args:
        process: What :func:`identity` said in it.
    """
    if process["host"] != host():
        return False
    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - process["started"]) < _CLOCK_SECONDS
        return not same or found.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True
