"""Identity of the process that does a piece of work, so that other processes can tell whether it is alive."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

_CLOCK_SECONDS = 10.0  # a process's start time moves when the system clock is set


def host() -> str:
    """Name of this machine, with its PID namespace where it has one: process ids are unique within it."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink()}" if namespace.exists() else socket.gethostname()


def identity() -> dict[str, Any]:
    """Host, process id and start time of this process."""
    return {"host": host(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def parse_identity(text: str) -> dict[str, Any] | None:
    """Identity from its JSON; None if the text is not one: users may edit a run's tags."""
    try:
        parsed = json.loads(text)
        return {"host": str(parsed["host"]), "pid": int(parsed["pid"]), "started": float(parsed["started"])}
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def is_dead(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; False for a process of another machine, which cannot be known.

    Args:
        process: Result of :func:`identity` in that process.
    """
    if process["host"] != host():
        return False
    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - process["started"]) < _CLOCK_SECONDS
        return not same or found.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True


def is_alive_elsewhere(text: str) -> bool:
    """Whether an identity, as JSON, is of another process of this machine, and that is alive."""
    process = parse_identity(text)
    return process is not None and process["host"] == host() and process["pid"] != os.getpid() and not is_dead(process)
