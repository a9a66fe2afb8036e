"""Text and tables in GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"<(?=[a-zA-Z/!?])|\](?=[(\[])")  # start of a tag or comment; end of the text of a link or image


def as_text(text: str) -> str:
    """Escape untrusted text for Markdown: one line, no HTML, no links, no images.

    Only the characters that make a tag, a link or an image are replaced, by character references, which Markdown keeps
    as text even after a backslash. All other text is unchanged.

    Args:
        text: Text from a record, a configuration or a file.
    """
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", " ".join(text.splitlines()))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table; cells are escaped, see :func:`as_text`, and may contain ``|``.

    Args:
        columns: Titles of the columns.
        rows: Cells, ``len(columns)`` in each row.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(as_text(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
