"""Untrusted text stays text in Markdown."""

import pytest
from markdown_it import MarkdownIt

from psn_lightning.commands.markdown import as_text, markdown_table

TAGS = ["<script>x()</script>", "</td>", "<!-- x -->", "<?x", "<http://x>", "\\<b>", "x\u2028<b>"]
LINKS = ["![x](y.png)", "[x](y)", "[x][y]", "[x]\n\n[x]: y", "\\![x](y)"]
LINES = ["# x\n# y", "x\r\n---\r\n"]


@pytest.mark.parametrize("text", [*TAGS, *LINKS, *LINES])
def test_tags_links_and_images_are_escaped(text):
    for markdown in (f"Of {as_text(text)}.", markdown_table(["a", "b"], [[text, text]])):
        html = MarkdownIt("commonmark").enable("table").render(markdown)
        tags = {"p", "table", "thead", "tbody", "tr", "th", "td"}
        assert {part.split(">")[0].strip("/") for part in html.split("<")[1:]} <= tags


@pytest.mark.parametrize("text", ["< 0.001", "−0.12 [−0.30, 0.06], n = 5", "[512, 512]", "s / (1 − s) > 2!", "a_b *c*"])
def test_ordinary_text_is_unchanged(text):
    assert as_text(text) == text
    assert f"| {text} |" in markdown_table(["a"], [[text]])


def test_a_cell_may_contain_the_separator():
    assert markdown_table(["a"], [["x|y"]]).endswith("| x\\|y |\n")
