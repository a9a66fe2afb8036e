"""Checks the links of a built site without a network: ``python docs/check_links.py FOLDER``.

Every link to a file of the site must lead to one, and to a place in it that exists. Links to other hosts are not
followed.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "srcset", "iframe": "src"}
_MADE_BY_SCRIPTS = {"", "top"}  # anchors that every page has


class _Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors = set(_MADE_BY_SCRIPTS)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element links to, and its name."""
        given = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        if link := given.get(_LINKS.get(tag, "")):
            self.links.add(link)


@cache
def _read(path: Path) -> _Page:
    return _Page(path.read_text())


def _has_anchor(target: Path, anchor: str) -> bool:
    return target.suffix != ".html" or anchor in _read(target.resolve()).anchors


def broken_links(site: Path) -> list[str]:
    """Links of a site that lead nowhere, as ``page: link``.

    Args:
        site: Folder with the pages.
    """
    broken = []
    for path in sorted(site.rglob("*.html")):
        for link in sorted(_read(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            if not target.is_file() or not _has_anchor(target, unquote(parts.fragment)):
                broken.append(f"{path.relative_to(site)}: {link}")
    return broken


def main(folder: str) -> int:
    """Print what is broken, and return the exit code."""
    site = Path(folder).resolve()
    pages = list(site.rglob("*.html"))
    broken = broken_links(site)
    print("\n".join([*broken, f"{len(pages)} pages, {len(broken)} broken links"]))
    return 1 if broken or not pages else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
