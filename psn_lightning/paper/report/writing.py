"""What a report writes: all of it or, where something is wrong, nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.files import atomically
from psn_lightning.paper.report.pages import with_sections


def brought_up_to_date(path: Path, sections: Mapping[str, str]) -> str:
    """A file of ``--into`` with its results; not written yet.

    Args:
        path: The file.
        sections: See :func:`~psn_lightning.paper.report.pages.with_sections`.

    Raises:
        SettingError: If it cannot be read, or has no place for results.
    """
    try:
        if not path.is_file():
            raise SettingError(f"--into {path} is not there, or no file: name one that has a place for results")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"--into {path} cannot be read ({in_one_line(error)}): name a text") from error
    return with_sections(text, sections, path)


def write(files: Mapping[Path, bytes]) -> None:
    """Write files: all of them or, where one cannot be, none.

    Args:
        files: Path → content.

    Raises:
        SettingError: If one cannot be.
    """
    path, made = Path(), set[Path]()
    try:
        made = {folder for path in files for folder in path.parents if not folder.exists()}
        with ExitStack() as all_written:  # then each takes its place
            for path, content in files.items():
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                all_written.enter_context(atomically(path)).write_bytes(content)
    except OSError as error:
        for folder in sorted(made, reverse=True):  # the deepest first
            with suppress(OSError):
                folder.rmdir()
        raise SettingError(f"{path} cannot be written ({error.strerror}): name another --out or --into") from error
