"""The site's own code: its reference has everything, its links are checked. ``make docs`` builds it."""

import re
import sys

import pytest

import psn_lightning
from psn_lightning.cli import COMMANDS
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import check_links
import configuration_links
import reference_pages

INDEX = (ROOT / "docs" / "index.md").read_text()


@pytest.fixture
def site(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "nn.html").write_text('<h1 id="nn">nn</h1><a href="../index.html#top"></a>')
    return tmp_path


@pytest.mark.parametrize(
    ("link", "broken"),
    [
        ("api/nn.html", False),
        ("api/nn.html#nn", False),
        ("#here", False),
        ("#", False),
        ("https://pytorch.org/no/such/page", False),
        ("api/nn.html#sparsify", True),
        ("api/topology.html", True),
        ("#there", True),
        ("/api/nn.html", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(site, link, broken, capsys):
    (site / "index.html").write_text(f'<p id="here"><a href="{link}">a</a></p>')
    assert check_links.broken_links(site) == ([f"index.html: {link}"] if broken else [])
    assert check_links.main(str(site)) == int(broken)
    assert "2 pages" in capsys.readouterr().out


def test_a_picture_that_is_missing_is_found(site):
    (site / "index.html").write_text('<img src="masks.png">')
    assert check_links.broken_links(site) == ["index.html: masks.png"]


def test_a_site_without_pages_is_not_whole(tmp_path):
    assert check_links.main(str(tmp_path)) == 1


def test_every_public_name_has_an_entry_and_none_has_two():
    pages = "\n".join(text for _, text in reference_pages._rooms())
    entries = re.findall(r"^\.\. auto\w+:: (\S+)$", pages, re.MULTILINE)
    assert {f"psn_lightning.{name}" for name in psn_lightning.__all__} <= set(entries)
    assert len(entries) == len(set(entries))


def test_every_configuration_is_on_a_page_under_the_label_that_links_to_it():
    pages = "\n".join(text for _, text in reference_pages._configurations())
    labels = re.findall(r"^\.\. _([\w-]+):$", pages, re.MULTILINE)
    paths = [str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")]
    assert sorted(labels) == sorted(map(configuration_links.label_of, paths))
    assert len(set(labels)) == len(labels)


def test_the_page_of_a_command_has_the_options_of_its_help():
    pages = dict(reference_pages._commands())
    assert set(pages) == {"commands.rst", *(f"commands/{name}.rst" for name in COMMANDS)}
    assert ".. option:: --data_dir" in pages["commands/data.rst"]


def test_a_link_out_of_the_folder_leads_to_a_page_of_the_site():
    text = ["[key](../conf/sweeps/ccv_offsets.yaml), [machines](../docker/README.md), [own](sweeps.md)"]
    configuration_links.link_pages(None, "sweeps", text)
    assert text == ["[key](#conf-sweeps-ccv-offsets), [machines](docker.md), [own](sweeps.md)"]


def test_a_link_named_by_a_file_has_the_title_of_its_page():
    text = ["[dynamics.md](dynamics.md#latent-weights), [docs/gpus.md](gpus.md), [rules](dynamics.md)"]
    configuration_links.link_pages(None, "library", text)
    assert text == ["[](dynamics.md#latent-weights), [](gpus.md), [rules](dynamics.md)"]


def test_only_pages_that_have_changed_are_written(tmp_path, monkeypatch):
    texts = {"_commands": "a", "_rooms": "b", "_configurations": "c", "_examples": "d"}
    for part, text in texts.items():
        monkeypatch.setattr(reference_pages, part, lambda part=part, text=text: [(f"x/{part}.rst", text)])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "gone.rst").write_text("of a command that there is no more")
    reference_pages.write(tmp_path)
    assert sorted(path.stem for path in (tmp_path / "x").iterdir()) == sorted(texts)
    written = tmp_path / "x" / "_rooms.rst"
    before = written.stat().st_mtime_ns
    reference_pages.write(tmp_path)
    assert written.stat().st_mtime_ns == before


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_every_page_is_in_the_index(page):
    name = str(page.relative_to(ROOT / "docs").with_suffix(""))
    assert (
        name == "index"
        or name.startswith(("generated/", "_build/"))
        or re.search(rf"^(.* <)?{name}>?$", INDEX, re.MULTILINE)
    )


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_is_a_notebook_without_outputs(page):
    text = page.read_text()
    assert text.startswith("---\nfile_format: mystnb\n")
    assert "```{code-cell} ipython3\n" in text
    assert "```{output}" not in text


def test_the_folder_of_the_site_is_not_in_git():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"docs/_build/", "docs/generated/"} <= set(ignored)
