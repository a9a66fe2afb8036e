"""Links of the site from pages to configurations and to pages that lie outside of ``docs/``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
ELSEWHERE = {"../docker/README.md": "docker.md"}
"""Page outside of ``docs/`` → the page of the site that includes it."""


def label_of(path: str) -> str:
    """Label of a configuration on its page.

    Args:
        path: Path from the root of the checkout, such as ``conf/rules/set.yaml``.
    """
    return re.sub(r"[^a-z0-9]+", "-", path.removesuffix(".yaml").lower())


def link_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace links that lead out of ``docs/``, and names of files as the text of links."""
    text = re.sub(r"\]\(\.\./((?:conf|examples)/[\w/.-]+)\)", lambda found: f"](#{label_of(found[1])})", source[0])
    text = re.sub(r"\[(?:docs/)?(\w+\.md)\]\((\1[^)]*)\)", r"[](\2)", text)  # the title instead of the file's name
    for there, here in ELSEWHERE.items():
        text = text.replace(f"]({there}", f"]({here}")
    source[0] = text


def link_configurations(app: Sphinx, doctree: nodes.document) -> None:
    """Link the names of configurations in the text: ``conf/rules/set.yaml`` in a code span."""
    from docutils import nodes
    from sphinx.addnodes import pending_xref

    for literal in list(doctree.findall(nodes.literal)):
        path = literal.astext()
        if isinstance(literal.parent, (nodes.reference, pending_xref)) or not _is_shown(path):
            continue
        target = {"refdomain": "std", "reftype": "ref", "reftarget": label_of(path), "refexplicit": True}
        link = pending_xref("", refdoc=app.env.docname, refwarn=True, **target)
        literal.replace_self(link)
        link += literal


def _is_shown(path: str) -> bool:
    return re.fullmatch(r"conf/[\w/-]+\.yaml", path) is not None and (ROOT / path).is_file()
