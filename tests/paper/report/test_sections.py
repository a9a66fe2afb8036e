"""Sections of results in README and docs."""

from psn_lightning.paper.record import read
from psn_lightning.paper.report.judging import all_claims
from psn_lightning.paper.report.pages import with_sections
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.sections import sections
from tests.conftest import ROOT

RECORD = ROOT / "results" / "runs.jsonl"


def test_the_pages_have_the_results_of_the_record():
    runs = Runs(read(RECORD).values())
    found = sections(runs, all_claims(runs))
    for path in (
        ROOT / "README.md",
        *(ROOT / "docs" / name for name in ("equilibrium.md", "results.md", "methods.md", "groups.md")),
    ):
        assert with_sections(path.read_text(), found, path) == path.read_text(), (
            f"{path} and results/runs.jsonl differ: psn-train report --into {path}"
        )
