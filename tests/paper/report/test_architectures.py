"""Made-up runs of two networks: tables of what was run, and nothing else."""

import itertools

from psn_lightning.paper.report.architectures import _SPARSITY, architectures_markdown, make_starts_table
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.reproduction import cells_of, load
from tests.paper.report.conftest import recorded

STARTS = {"erk": 90.0, "uniform": 90.01, "lognormal": 88.0}


def simulate(seeds=5):
    runs = []
    for (start, accuracy), seed in itertools.product(STARTS.items(), range(seeds)):
        cell, noise = {"start": start, _SPARSITY: 0.9}, 0.01 * seed * (1 + (start == "uniform"))
        metrics = {"fan_in/ccv": 0.5 + seed}
        runs.append(recorded("resnet", "fashion", cell, seed, accuracy, metrics, [0.0] + 3 * [accuracy + noise]))
    return Runs(runs)


def test_accuracies_and_ends_of_each_start():
    rows = make_starts_table(simulate(3), "a network").rows
    assert [row[:2] for row in rows] == [["90%", start] for start in STARTS]
    assert rows[2][2].startswith("88.01 ±")
    assert rows[0][3].startswith("1.50 ± 1.00")


def test_one_network_was_run():
    text = architectures_markdown(simulate())
    assert "Residual network" in text
    assert "Transformer" not in text
    judged = [line for line in text.splitlines() if "**" in line]
    assert ["**equal**" in line for line in judged] == [True, False]


def test_nothing_was_run():
    assert "reproduce resnet" in architectures_markdown(Runs([]))


def test_the_table_has_the_cells_of_the_reproductions():
    for name in ("resnet", "transformer"):
        cells = [cell for cell, _ in cells_of(load(name), "fashion").values()]
        assert {tuple(cell) for cell in cells} == {("start", _SPARSITY)}
        assert {cell["start"] for cell in cells} == set(STARTS)
