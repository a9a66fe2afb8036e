"""The errors that users are meant to see, how an error is shortened, and the nearest name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 1000  # characters of a line: a library may quote a whole configuration


class SettingError(ValueError):
    """A setting that cannot work.

    The message names the setting, its value and what to do instead; the command line prints it without a traceback and
    exits with code 2.
    """

    @classmethod
    def inside(cls, error: BaseException) -> SettingError | None:
        """The first :class:`SettingError` among an error and its causes; None without one."""
        seen: set[int] = set()
        current: BaseException | None = error
        while current is not None and id(current) not in seen:
            if isinstance(current, SettingError):
                return current
            seen.add(id(current))
            current = current.__cause__ or current.__context__
        return None


class UnreachableError(SettingError):
    """A topology that cannot be had: a CCV beyond the reachable one, a fan-in beyond the inputs, an empty layer."""


class DivergedError(SettingError):
    """A run whose loss is not finite."""


def in_one_line(error: BaseException) -> str:
    """Message of an error on one line, to stand within another message; the error's type if it has no message."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def compact(error: BaseException) -> str:
    """Message of an error on at most two lines: the first, and the rest joined."""
    first, *rest = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()] or [""]
    return "\n  ".join(line[:_LONGEST] for line in (first, " ".join(rest)) if line)


def suggest(name: str, known: Iterable[str]) -> str:
    """``: did you mean model.sparsity?``; empty where no known name is near."""
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.6)
    return f": did you mean {near[0]}?" if near else ""
