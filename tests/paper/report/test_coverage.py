"""Hours and runs by claim."""

from psn_lightning.paper.report.coverage import cost_by_claim, load_grids
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.reproduction import cells_of
from tests.conftest import ROOT
from tests.paper.report.conftest import recorded


def test_the_runs_under_the_plan_count_and_their_mean_gives_the_rest(monkeypatch):
    monkeypatch.chdir(ROOT)
    grids = load_grids()
    cells = list(cells_of(grids["spreading"], "mnist").values())
    runs = [recorded("spreading", "mnist", cell, seed, 97.0, plan="x") for cell, seed in cells[:6]]  # a minute each
    older = [recorded("spreading", "mnist", cell, seed, 97.0) for cell, seed in cells[6:9]]
    (row,) = [
        line for line in cost_by_claim(Runs([*runs, *older]), grids).splitlines() if line.startswith("| spreading")
    ]
    assert row.endswith(f"| 6 of {len(cells)} | 0.1 | {len(cells) / 60:.1f} |")
    (other,) = [line for line in cost_by_claim(Runs(runs), grids).splitlines() if line.startswith("| crossover")]
    assert other.endswith("| 0.0 | not known |")
