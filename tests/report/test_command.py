"""``psn-train report`` from the committed record, without data; the README's results are its own."""

import re
from pathlib import Path

import pytest

from psn_lightning.cli import main
from psn_lightning.experiments.markdown import markdown_table
from psn_lightning.experiments.record import read
from psn_lightning.report.command import all_claims, sections
from psn_lightning.report.equilibria import measured
from psn_lightning.report.law import THE_LAW, fits, layers
from psn_lightning.report.pages import page, with_sections
from psn_lightning.report.runs import Runs
from psn_lightning.topology.equilibrium import LAW_ERROR, LAW_FACTOR, MEASURED
from tests.conftest import CONF, ROOT

BEGIN, END = "<!-- psn-train report writes: claims -->", "<!-- end -->"
RECORD = ROOT / "results" / "runs.jsonl"


def test_the_report_from_the_record_alone(workdir, monkeypatch, capsys):
    monkeypatch.setenv("PSN_DATA_DIR", str(workdir / "nothing"))
    (workdir / "conf").symlink_to(CONF)
    readme = workdir / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["report", "--record", str(RECORD), "--into", str(readme)]) == 0
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


@pytest.mark.parametrize("name", ["README.md", "docs/equilibrium.md"])
def test_the_pages_have_the_results_of_the_record(name):
    runs, path = Runs(read(RECORD).values()), ROOT / name
    assert with_sections(path.read_text(), sections(runs, all_claims(runs)), path) == path.read_text(), (
        f"{name} and results/runs.jsonl differ: psn-train report --into {name}"
    )


def test_what_the_program_ships_of_equilibria_is_what_the_record_says():
    runs = Runs(read(RECORD).values())
    assert {data: dict(row) for data, row in MEASURED.items()} == measured(runs)
    by_law = {fit.law: fit for fit in fits(layers(runs))}
    assert round(by_law[THE_LAW].coefficients[0], 3) == LAW_FACTOR
    assert round(by_law[THE_LAW].error, 2) == LAW_ERROR
    assert by_law[THE_LAW].error <= 1.05 * min(fit.error for fit in by_law.values())  # and the simplest of the good


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--record", "none.jsonl"], "none.jsonl has no runs: psn-train reproduce NAME makes some"),
        (["--experiment", "none"], "--experiment 'none' is not in"),
        (["--record", str(RECORD), "--into", "plain.md"], "--into plain.md: the file has no line"),
        (["--record", str(RECORD), "--into", "wrong.md"], "--into wrong.md: the file has a place for 'tables'"),
        (["--record", str(RECORD), "--into", "none.md"], "--into none.md is not there"),
        (["--record", str(RECORD), "--out", "plain.md"], "plain.md"),
    ],
)
def test_what_cannot_be_is_named(workdir, capsys, arguments, message):
    Path("plain.md").write_text("nothing here")
    Path("wrong.md").write_text("<!-- psn-train report writes: tables -->\n<!-- end -->")
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_field_may_hold_what_separates_fields():
    assert markdown_table(["a"], [["x|y"]]).endswith("| x\\|y |\n")


def test_a_page_shows_its_title_as_text(tmp_path):
    assert "<title>a &lt; b</title>" in page("# T", "a < b", tmp_path)
