"""Text and tables in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_ALIVE = re.compile(r"<(?=[a-zA-Z/!?])|\](?=[(\[])")  # begins a tag or a comment; ends the words of a link or an image


def as_text(text: str) -> str:
    """Text that others wrote, on one line and with nothing that a browser would follow or run.

    Entities are taken literally everywhere, behind a backslash too; what is no tag and no link stays as it is.
    """
    return _ALIVE.sub(lambda match: f"&#{ord(match[0])};", " ".join(text.splitlines()))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what separates its fields, or would be more than text, may stand in one."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(as_text(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
