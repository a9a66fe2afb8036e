"""``psn-train report`` from the committed record, without data; the README has the results of the record."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from psn_lightning.cli import main
from psn_lightning.paper.record import read
from psn_lightning.paper.report.equilibria import measured
from psn_lightning.paper.report.law import THE_LAW, fits
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.settled_layers import layers
from psn_lightning.topology.equilibrium import LAW_ERROR, LAW_EXPONENTS, LAW_FACTOR, MEASURED
from tests.conftest import CONF, ROOT
from tests.paper.report.conftest import recorded

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
    for heading in ("## Claims", "## Figures", "## Tables", "Table 6, static at 90%, Eq. 9's scale: MNIST", "not run"):
        assert heading in markdown
    figures = re.findall(r"\((figures/[\w-]+\.png)\)", markdown)
    assert len(figures) >= 5
    assert all((Path("report") / figure).stat().st_size > 5000 for figure in figures)
    assert page_.count("data:image/png;base64,") == len(figures)
    assert not re.search(r'src="(?!data:)', page_)  # the page needs no other file
    assert set(re.findall(r'href="([^"]*)"', page_)) == {"explore.html"}
    assert "<table>" in page_
    assert 'class="yes"' in page_
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "\nold\n" not in text


def test_the_equilibria_of_the_package_are_those_of_the_record():
    runs = Runs(read(RECORD).values())
    assert {data: dict(row) for data, row in MEASURED.items()} == measured(runs)
    by_law = {fit.law: fit for fit in fits(layers(runs))}
    assert [round(c, 3) for c in by_law[THE_LAW].coefficients] == [LAW_FACTOR, *LAW_EXPONENTS]
    assert round(by_law[THE_LAW].error, 2) == LAW_ERROR
    best = min(fit.error for fit in by_law.values())
    good = [name for name, fit in by_law.items() if fit.error <= 1.05 * best]
    assert good[0] == THE_LAW  # the simplest of the best


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--record", "none.jsonl"], "none.jsonl has no runs"),
        (["--experiment", "none"], "--experiment 'none' is not in"),
        (["--record", "."], ". is a folder"),
        (["--record", "r.jsonl", "--into", "plain.md"], "--into plain.md"),
        (["--record", "r.jsonl", "--into", "wrong.md"], "--into wrong.md: section 'tables'"),
        (["--record", "r.jsonl", "--into", "none.md"], "--into none.md"),
        (["--record", "r.jsonl", "--out", "plain.md"], "plain.md"),
    ],
)
def test_wrong_arguments_are_named(workdir, capsys, arguments, culprit):
    Path("plain.md").write_text("nothing here")
    Path("wrong.md").write_text("<!-- psn-train report writes: tables -->\n<!-- end -->")
    Path("r.jsonl").write_text(json.dumps(asdict(recorded("static", "mnist", {"profile": "bell"}, 1, 98.0))))
    assert main(["report", *arguments]) == 2
    assert culprit in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "culprits"),
    [
        ({"cell": {}}, ("r.jsonl", "KeyError: 'profile'")),
        ({"data": "another"}, ("r.jsonl", "KeyError: 'another'")),
        ({"metrics": {}}, ("r.jsonl, line 1 ", "metrics", "test/accuracy", "{}")),
    ],
)
def test_a_report_that_fails_leaves_no_files(workdir, capsys, changes, culprits):
    run = {**asdict(recorded("static", "mnist", {"profile": "bell"}, 1, 98.0)), **changes}
    Path("r.jsonl").write_text(json.dumps(run))
    before = list(workdir.rglob("*"))
    assert main(["report", "--record", "r.jsonl"]) == 2
    printed = capsys.readouterr().err
    assert all(culprit in printed for culprit in culprits)
    assert list(workdir.rglob("*")) == before


@pytest.mark.parametrize("changes", [{"--into": "none.md"}, {"--into": "binary.md"}, {"--out": "plain.md"}])
def test_a_file_that_cannot_be_written_is_refused_before_any_other_is_written(workdir, capsys, changes):
    Path("plain.md").write_text(f"{BEGIN}\nold\n{END}\n")
    Path("binary.md").write_bytes(b"\xff\xfe")
    Path("r.jsonl").write_text(json.dumps(asdict(recorded("static", "mnist", {"profile": "bell"}, 1, 98.0))))
    before = {path: path.is_file() and path.read_bytes() for path in workdir.rglob("*")}
    into = ["--into", "plain.md", *([changes["--into"]] if "--into" in changes else [])]
    assert main(["report", "--record", "r.jsonl", "--out", changes.get("--out", "new/report"), *into]) == 2
    assert next(iter(changes.values())) in capsys.readouterr().err
    assert {path: path.is_file() and path.read_bytes() for path in workdir.rglob("*")} == before


def test_strings_of_a_record_are_shown_as_text(workdir):
    """Hostile values stay text: neither page runs, fetches or reads anything for them."""
    Path("secret.png").write_bytes(b"secret")
    value = f"<script>x()</script> ![a]({workdir}/secret.png) ![b](http://x/y.png)\n\n![c](figures/profiles.png)\\|<!--"
    run = recorded("static", "mnist", {"profile": value}, 1, 98.0)
    Path("r.jsonl").write_text(json.dumps(asdict(replace(run, machine=value, dataset=value, storage=value))))
    assert main(["report", "--record", "r.jsonl"]) == 0
    markdown, page_ = (Path("report") / "report.md").read_text(), (Path("report") / "report.html").read_text()
    for written in (markdown, page_):
        assert not re.search("<script|<!--", written)
    assert re.findall(r"!\[.*?\]\((.*?)\)", markdown) == ["figures/profiles.png", "figures/static.png"]
    assert [source[:22] for source in re.findall('<img src="(.*?)"', page_)] == ["data:image/png;base64,"] * 2
    assert "c2VjcmV0" not in page_
    assert "&lt;script&gt;x()&lt;/script&gt; ![a](" in page_
