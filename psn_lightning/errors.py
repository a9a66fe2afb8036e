"""The one error that users are meant to see."""

from typing import ClassVar


class SettingError(ValueError):
    """A setting that cannot work.

    The message names the setting, its value and what to do instead; the command line prints it
    without a traceback and exits with code 2.
    """

    latest: ClassVar[str] = ""
    """The last message made: the argument parser wraps errors in reports of its own, of which this is the point."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        SettingError.latest = message


def compact(error: Exception) -> str:
    """An error as at most two lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n  ".join(lines[:1] + ([" ".join(lines[1:])[:300]] if lines[1:] else []))
