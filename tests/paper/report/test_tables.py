"""Tables: every row is there, with the numbers of the runs."""

import statistics

import pytest

from psn_lightning.paper.report.equilibria import equilibrium_tables
from psn_lightning.paper.report.paper_tables import paper_tables
from psn_lightning.paper.report.runs import Runs, accuracy
from psn_lightning.paper.report.tables import accuracies, mean_of


def test_accuracies_against_the_paper_and_a_baseline(made):
    runs = made("static", "mnist", "profile", {"random": 98.07, "bell": 98.1, "quadratic": 96.0}, spread=0.02)
    table = accuracies("T", runs, "profile", "random", {"random": 98.07, "bell": 98.11, "quadratic": 98.12})
    assert all(len(row) == len(table.columns) for row in table.rows)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["random", "bell", "quadratic"]
    assert rows["random"]["− random"] == "–"
    assert rows["quadratic"]["− random"].startswith("−2.0")
    assert rows["quadratic"]["ours − paper"].startswith("−2.1")
    assert rows["quadratic"]["p (Holm)"] == "< 0.001"
    assert float(rows["bell"]["equal within"]) < 0.2
    mean = statistics.fmean(accuracy(run) for run in runs.having({"profile": "bell"}).all)
    assert rows["bell"]["accuracy, %"].startswith(f"{mean:.2f} ± ")


def test_one_seed_has_a_mean_without_interval(made):
    runs = made("static", "mnist", "profile", {"random": 98.0, "bell": 98.0}, seeds=[42])
    (table,) = paper_tables(runs)
    (row, _) = ({**dict(zip(table.columns, row, strict=True))} for row in table.rows)
    assert row["accuracy, %"].endswith(" (1)")
    assert row["95%"] == "–"
    assert row["− random"] == "–"
    assert mean_of(runs.having({"profile": "none"})) == "–"


CCV = {"fan_in/ccv": 0.4, "fan_in/ccv/fc1": 0.3, "fan_in/ccv/fc2": 0.5, "gradient/ratio": 2.0}
CCV |= {f"sparsity/realised/{layer}": 0.9 for layer in ("fc1", "fc2")}
CCV |= {f"topology/dead_neurons/{layer}": 3.0 for layer in ("fc1", "fc2")}
CCV |= {f"gradient/ratio_active/{layer}": 1.0 for layer in ("fc1", "fc2")}
PEAKS = "model.topology.init_args.peaks"
KINDS = [
    ("equilibrium", "fashion", "start", ["erk", "lognormal"], {"model.sparsity": 0.9}, "2.52"),
    ("equilibrium-variants", "fashion", "variant", ["canonical", "no return"], {}, "2.52"),
    ("equilibrium-combinations", "mnist", "choices", ["unseen"], {"model.sparsity": 0.8}, "1.62"),
    ("multipeak", "mnist", PEAKS, [1, 2], {"model.topology.init_args.sharpness": 1000.0}, "κ = 1000"),
    ("gradient", "mnist", "profile", ["random", "bell"], {}, "bell"),
    ("mnist-sparsity", "mnist", "profile", ["random"], {"sparsity": "ceiling", "model.spreading": "even"}, "92.49"),
    ("rigl-init", "forest", "start", ["erk", "uniform"], {"model.sparsity": 0.9}, "94.27"),
    ("architecture", "forest", "model.hidden", ["[512, 512]", "[256, 256]"], {}, "[256, 256]"),
    ("fashion-10-seeds", "fashion", "start", ["erk", "equilibrium"], {}, "equilibrium"),
    ("spreading", "mnist", "model.spreading", ["even", "sequential"], {}, "75.00"),
]


@pytest.mark.parametrize(("reproduction", "data", "key", "values", "cell", "shown"), KINDS, ids=[k[0] for k in KINDS])
def test_each_reproduction_has_its_table(made, reproduction, data, key, values, cell, shown):
    runs = made(reproduction, data, key, dict.fromkeys(values, (90.0, CCV)), cell=cell, seeds=(42, 123))
    tables = [*paper_tables(runs), *equilibrium_tables(runs)]
    assert all(table.rows for table in tables if table.title != "A law of our equilibria")  # the law needs more layers
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    fields = [[*table.columns, *(field for row in table.rows for field in row)] for table in tables]
    text = " ".join(field for own in fields for field in own)
    assert shown in text


def test_without_runs_there_are_no_tables():
    assert list(paper_tables(Runs([]))) == []
