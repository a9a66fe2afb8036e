"""The one error that users are meant to see."""

from __future__ import annotations

from typing import ClassVar

_LONGEST = 1000  # letters of a message: what is quoted in it may be anything


class SettingError(ValueError):
    """A setting that cannot work.

    The message names the setting, its value and what to do instead; the command line prints it
    without a traceback and exits with code 2.
    """

    _latest: ClassVar[SettingError | None] = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        SettingError._latest = self

    @classmethod
    def inside(cls, error: Exception) -> SettingError | None:
        """The one that is the point of an error: itself, or the last one made if the error quotes it.

        The argument parser wraps errors in reports of its own.
        """
        if isinstance(error, SettingError):
            return error
        latest = SettingError._latest
        return latest if latest is not None and str(latest) in str(error) else None


class UnreachableError(SettingError):
    """A topology that its family cannot give: a CCV beyond the reachable one, a fan-in beyond the inputs."""


class DivergedError(SettingError):
    """A run whose loss is not a finite number."""


def in_one_line(error: Exception) -> str:
    """What a library says, short enough to stand within a message of ours."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def compact(error: Exception) -> str:
    """An error as at most two lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n  ".join([line[:_LONGEST] for line in lines[:1]] + ([" ".join(lines[1:])[:300]] if lines[1:] else []))
