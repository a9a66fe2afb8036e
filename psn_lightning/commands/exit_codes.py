"""What an error of a command means: a message on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from argparse import ArgumentError

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.distributed import DistNetworkError

from psn_lightning.errors import DivergedError, SettingError, compact, in_one_line

USER_ERROR = 2
"""Exit code: a setting cannot work; the message says which one."""

STOPPED = 143
"""Exit code: the run was asked to stop, as a shell reports of a process that SIGTERM ended."""

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def report_error(error: BaseException, debug: bool) -> int | None:
    """Print the message of an error that is the user's to mend, or of a run that was stopped.

    Args:
        error: Error that ended a command.
        debug: Whether the user wants tracebacks: then only a stop is reported.

    Returns:
        Exit code; None for an error that is not the user's: the caller raises it again. 0 on a process beside the first
        one for an end that all processes have agreed on: Lightning kills the first one, which may still have to hand
        its figures over, as soon as another ends with an error.
    """
    is_first = not getattr(rank_zero_only, "rank", 0)  # which Lightning sets
    if isinstance(error, SIGTERMException | KeyboardInterrupt):
        if is_first:
            sys.stderr.write(f"psn-train: {getattr(error, 'code', None) or 'stopped'}\n")
        return STOPPED if is_first else 0
    message = None if debug else _message(error)
    if message is None:
        return None
    sys.stderr.write(f"psn-train: {message}\n")
    return USER_ERROR if is_first or not isinstance(SettingError.inside(error), DivergedError) else 0


def _message(error: BaseException) -> str | None:
    if isinstance(error, DistNetworkError):
        port = os.environ.get("MASTER_PORT", "that torch chose")
        return f"MASTER_PORT {port} is in use, or the first process does not answer there: set another MASTER_PORT"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"out of memory ({in_one_line(error)}): use a smaller network or batch"
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"{error.filename or 'a file'} cannot be written or read: {error.strerror}"
    cause = SettingError.inside(error)
    if cause is None and isinstance(error, ArgumentError | MisconfigurationException):
        return compact(error)
    return None if cause is None else compact(cause)
