"""``psn-train report`` from the committed record, without data; the README's results are its own."""

import re
from pathlib import Path

import pytest

from psn_lightning.cli import main
from psn_lightning.experiments.markdown import markdown_table
from psn_lightning.experiments.record import read
from psn_lightning.report.command import all_claims, section
from psn_lightning.report.pages import BEGIN, END, page, with_section
from psn_lightning.report.runs import Runs
from tests.conftest import CONF, ROOT

RECORD = ROOT / "results" / "runs.jsonl"


def test_the_report_from_the_record_alone(workdir, monkeypatch, capsys):
    monkeypatch.setenv("PSN_DATA_DIR", str(workdir / "nothing"))
    (workdir / "conf").symlink_to(CONF)
    readme = workdir / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["report", "--record", str(RECORD), "--readme", str(readme)]) == 0
    assert "claims:" in capsys.readouterr().out
    markdown, page_ = (Path("report") / "report.md").read_text(), (Path("report") / "report.html").read_text()
    for heading in ("## Claims", "## Figures", "## Tables", "Table 6, static at 90%: MNIST", "not run"):
        assert heading in markdown
    figures = re.findall(r"\((figures/\w+\.png)\)", markdown)
    assert len(figures) >= 5
    assert all((Path("report") / figure).stat().st_size > 5000 for figure in figures)
    assert page_.count("data:image/png;base64,") == len(figures)
    assert not re.search(r'(src|href)="(?!data:)', page_)  # it needs nothing beside it
    assert "<table>" in page_
    assert 'class="reproduced"' in page_
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text


def test_the_readme_has_the_results_of_the_record():
    runs = Runs(read(RECORD).values())
    readme = (ROOT / "README.md").read_text()
    assert with_section(readme, section(runs, all_claims(runs))) == readme, (
        "README.md and results/runs.jsonl differ: psn-train report --readme README.md"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--record", "none.jsonl"], "none.jsonl has no runs: psn-train reproduce NAME makes some"),
        (["--experiment", "none"], "--experiment 'none' is not in"),
        (["--record", str(RECORD), "--readme", "plain.md"], "--readme: the file has no lines"),
    ],
)
def test_what_cannot_be_is_named(workdir, capsys, arguments, message):
    Path("plain.md").write_text("nothing here")
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_field_may_hold_what_separates_fields():
    assert markdown_table(["a"], [["x|y"]]).endswith("| x\\|y |\n")


def test_a_page_shows_its_title_as_text(tmp_path):
    assert "<title>a &lt; b</title>" in page("# T", "a < b", tmp_path)
