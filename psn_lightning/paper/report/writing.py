"""Files of a report: all of them are written, or none."""

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
    """Read a file of ``--into`` and replace its sections; the file is not written.

    Args:
        path: Path of the file.
        sections: Markdown by name of the section, see :func:`~psn_lightning.paper.report.pages.with_sections`.

    Raises:
        SettingError: If the file cannot be read, has no section, or a section of an unknown name.
    """
    try:
        if not path.is_file():
            raise SettingError(f"--into {path} is not a file: give a file with a section for results")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"--into {path} cannot be read ({in_one_line(error)}): give a text file in UTF-8") from error
    return with_sections(text, sections, path)


def write(files: Mapping[Path, bytes]) -> None:
    """Write all files, or none if one of them cannot be written.

    Args:
        files: Content by path.

    Raises:
        SettingError: If a file cannot be written.
    """
    path, made = Path(), set[Path]()
    try:
        made = {folder for path in files for folder in path.parents if not folder.exists()}
        with ExitStack() as all_written:  # files are replaced on exit, when all contents are written
            for path, content in files.items():
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                all_written.enter_context(atomically(path)).write_bytes(content)
    except OSError as error:
        for folder in sorted(made, reverse=True):  # the deepest first
            with suppress(OSError):
                folder.rmdir()
        raise SettingError(f"{path} cannot be written ({error.strerror}): give another --out or --into") from error
