"""The summary: a row for each claim of the plan, whatever it was judged by."""

import re

import pytest

from psn_lightning.paper.plan import load_plan
from psn_lightning.paper.record import read
from psn_lightning.paper.report.judging import all_claims
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.summary import HEADLINES, headline_table, summary_page, summary_table
from psn_lightning.paper.report.verdicts import Claim, Verdict
from tests.conftest import ROOT


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_plan()


def rows(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]


def test_every_claim_of_the_plan_has_one_row(plan):
    claims = all_claims(Runs(read(ROOT / "results" / "runs.jsonl").values()))
    assert {claim.name for claim in claims} - {""} == set(plan.claims)
    found = rows(summary_table(plan, claims))
    assert [row[0] for row in found] == [planned.claim for planned in plan.claims.values()]
    headlines = rows(headline_table(plan, claims))
    assert [row[0] for row in headlines] == [plan.claims[name].claim for name in HEADLINES]
    for title, brief in headlines:
        (full,) = [row[2] for row in found if row[0] == title]
        words = [set(re.findall(r"\*\*(.*?)\*\*", text)) for text in (brief, full)]
        assert words[0] == words[1]
        assert "size" not in brief
    assert summary_table(plan, claims) in summary_page(plan, claims)


def claim(data, verdict, basis, title="Accuracy is flat"):
    return Claim(title, data, verdict, f"ours on {data}", "0.65", basis=basis, name="multipeak-flat")


def test_verdicts_are_grouped_and_older_runs_marked(plan):
    claims = [
        claim("MNIST", Verdict.REPRODUCED, "plan, look 1 of 2, 3 seeds"),
        claim("Fashion-MNIST", Verdict.REPRODUCED, "plan, look 2 of 2, 5 seeds"),
        claim("EMNIST subset (5 rows)", Verdict.OPEN, "exploratory: static", "It is flat (canonical growth)"),
        claim("Forest Cover", Verdict.NOT_RUN, "not run"),
    ]
    ((_, _, verdicts, ours),) = rows(summary_table(plan, claims))
    assert verdicts == (
        "**reproduced**: MNIST and Fashion-MNIST; **open** (exploratory): EMNIST subset (canonical growth); "
        "**not run**: Forest Cover"
    )
    assert re.findall(r"ours on (\w+)", ours) == ["MNIST", "Fashion", "EMNIST"]


def test_many_parts_that_are_not_run_are_counted(plan):
    claims = [claim(f"data {i}", Verdict.NOT_RUN, "not run") for i in range(7)]
    ((_, _, verdicts, ours),) = rows(summary_table(plan, claims))
    assert verdicts == "**not run**: 7 of 7 parts"
    assert ours == "–"
