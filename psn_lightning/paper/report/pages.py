"""Text of the report: Markdown, and an HTML page that contains all figures."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from markdown_it import MarkdownIt

from psn_lightning.commands.markdown import as_text, markdown_table
from psn_lightning.errors import SettingError
from psn_lightning.paper.report.tables import Table
from psn_lightning.paper.report.verdicts import Claim, Verdict

_SECTION = re.compile(r"(<!-- psn-train report writes: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
"""Section of a file that the report writes: first line, name, content, last line."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
div.table { overflow-x: auto } table { border-collapse: collapse; margin: .7rem 0 1.4rem; font-size: 13px }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d8dee4; text-align: left; vertical-align: top }
th { background: #f3f5f7 } td { font-variant-numeric: tabular-nums } img { max-width: 100% }
.yes { color: #116329 } .no { color: #a40e26 } .open { color: #7d4e00 }
h2 { margin-top: 2.4rem; border-bottom: 1px solid #d8dee4 }
"""
_CLASSES = {
    Verdict.REPRODUCED: "yes",
    Verdict.NOT_REPRODUCED: "no",
    Verdict.REVERSED: "no",
    Verdict.OPEN: "open",
    Verdict.NOT_RUN: "open",
    Verdict.NOT_COMPARABLE: "open",
    Verdict.CONTRADICTED: "open",
}
"""Class of each verdict on the page, which has a colour."""


def claims_table(claims: Iterable[Claim]) -> str:
    """Format claims as a Markdown table with a row for each."""
    rows = [(c.title, c.data, c.paper, c.ours, f"**{c.verdict}**", c.size, c.basis) for c in claims]
    return markdown_table(["the paper says", "data", "paper", "measured here", "verdict", "size", "by"], rows)


def checks_table(checks: Iterable[Claim]) -> str:
    """Format consistency checks, which are computed and not measured, as a Markdown table."""
    rows = [(c.title, c.data, "yes" if c.verdict is Verdict.REPRODUCED else "**no**", c.ours) for c in checks]
    return markdown_table(["the paper says", "layer", "consistent", "computed here"], rows)


def tally(claims: Iterable[Claim]) -> str:
    """Count the verdicts: ``12 reproduced, 3 not reproduced, 9 open``."""
    counts = Counter(claim.verdict for claim in claims)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) or "none"


def table_markdown(table: Table) -> str:
    """Format a table as Markdown, with title and note."""
    return f"### {as_text(table.title)}\n\n{untitled(table)}"


def untitled(table: Table) -> str:
    """Format a table as Markdown, with its note and without title."""
    note = f"{table.note}\n\n" if table.note else ""
    return f"{note}{markdown_table(table.columns, table.rows)}"


def page(markdown: str, title: str, figures: Mapping[str, bytes]) -> str:
    """Make an HTML page that needs no other file.

    Args:
        markdown: Report; HTML in it is shown as text.
        title: Title of the page.
        figures: Content (PNG) of the figures by path in the report, such as ``figures/law.png``; other images are left
            out.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = re.sub(r'<img src="([^"]*)"[^>]*>', lambda match: _inline(match, figures), body)
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    for verdict, name in _CLASSES.items():
        body = body.replace(f"<strong>{verdict}</strong>", f'<strong class="{name}">{verdict}</strong>')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'


def _inline(image: re.Match[str], figures: Mapping[str, bytes]) -> str:
    """Replace the path of an image by its content; an image that is not among the figures is removed."""
    if image[1] not in figures:
        return ""
    content = base64.b64encode(figures[image[1]]).decode()
    return image[0].replace(image[1], f"data:image/png;base64,{content}", 1)


def with_sections(text: str, sections: Mapping[str, str], source: Path) -> str:
    """Replace the sections of a text, between ``<!-- psn-train report writes: NAME -->`` and ``<!-- end -->``.

    Args:
        text: Text of the file.
        sections: Markdown by name of the section.
        source: Path of the file, for messages.

    Raises:
        SettingError: If the text has no section, or a section of an unknown name.
    """
    names = [match[2] for match in _SECTION.finditer(text)]
    unknown = [name for name in names if name not in sections]
    known = f"NAME is one of {', '.join(sections)}"
    if unknown:
        raise SettingError(f"--into {source}: section {unknown[0]!r} is not known; {known}")
    if not names:
        raise SettingError(
            f"--into {source} has no section for results: add the lines '<!-- psn-train report writes: NAME -->' and "
            f"'<!-- end -->'; {known}"
        )
    return _SECTION.sub(lambda match: f"{match[1]}\n{sections[match[2]].strip()}\n\n{match[4]}", text)
