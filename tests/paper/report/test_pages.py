"""HTML page: HTML in the report is text, and only the figures of the report are images."""

import pytest

from psn_lightning.paper.report.pages import page


def test_a_page_shows_its_title_as_text():
    assert "<title>a &lt; b</title>" in page("# T", "a < b", {})


def test_html_is_shown_as_text():
    shown = page("a <b>\n\n<script>x()</script>\n", "T", {})
    assert "a &lt;b&gt;" in shown
    assert "<script" not in shown


def test_the_page_contains_its_figures():
    assert 'src="data:image/png;base64,YQ=="' in page("![c](figures/x.png)", "T", {"figures/x.png": b"a"})


@pytest.mark.parametrize("name", ["/etc/x.png", "http://x/y.png", "figures/../figures/x.png", "figures/y.png", "x.gif"])
def test_other_images_are_left_out(name):
    assert "<img" not in page(f"![c]({name})", "T", {"figures/x.png": b"a"})
