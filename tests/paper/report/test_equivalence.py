"""Equivalence tests: known differences are found, verdicts are those of scipy's two one-sided tests."""

import itertools

import numpy as np
import pytest
from scipy import stats

from psn_lightning.paper.report.equivalence import MARGIN, equivalence_table
from psn_lightning.paper.report.method_pages import methods_markdown, sharing_markdown
from psn_lightning.paper.report.runs import Runs
from tests.paper.report.conftest import recorded


def simulate(differences, n=10, noise=0.05, reproduction="gse"):
    """Two methods on the same seeds; the second differs from the first by a known amount at each sparsity."""
    rng, runs, values = np.random.default_rng(1), [], {}
    for (sparsity, difference), seed in itertools.product(differences.items(), range(n)):
        base = 89 + seed + rng.normal(0, noise)
        for method, accuracy in (("rigl", base), ("gse", base + difference + rng.normal(0, noise))):
            values.setdefault((sparsity, method), []).append(round(accuracy, 4))
            cell, curve = {"model.sparsity": sparsity, "method": method}, [0.0] + 3 * [round(accuracy, 4)]
            runs.append(recorded(reproduction, "fashion", cell, seed, round(accuracy, 4), {}, curve))
    return Runs(runs), values


def test_verdicts_and_p_values():
    runs, values = simulate({0.9: 0.0, 0.95: 0.6, 0.98: MARGIN})
    table = equivalence_table(runs, "title", "method", "rigl", ["model.sparsity"])
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert [row["verdict"] for row in rows.values()] == ["**equal**", "**different**", "**open**"]
    gse, rigl = (np.array(values[0.9, method]) for method in ("gse", "rigl"))
    above = stats.ttest_rel(gse + MARGIN, rigl, alternative="greater").pvalue
    below = stats.ttest_rel(gse - MARGIN, rigl, alternative="less").pvalue
    expected = 3 * max(above, below)  # the smallest of three, by Holm
    assert expected < 0.001
    assert rows["90%"]["p within"] == "< 0.001"
    low, high = stats.ttest_rel(gse, rigl).confidence_interval(0.95)
    assert rows["90%"]["difference, 95%"].startswith(f"{np.mean(gse - rigl):+.2f} [".replace("-", "−"))
    assert f"{abs(low):.2f}" in rows["90%"]["difference, 95%"]
    assert f"{abs(high):.2f}" in rows["90%"]["difference, 95%"]


@pytest.mark.parametrize("n", [1, 2])
def test_few_seeds_decide_nothing(n):
    """Without two pairs there is no noise to compare with, and no row."""
    table = equivalence_table(simulate({0.9: 0.0}, n, noise=0.2)[0], "title", "method", "rigl", ["model.sparsity"])
    assert [row[-1] for row in table.rows] == ["**open**"] * (n > 1)


def test_the_page_of_methods_has_it():
    runs, _ = simulate({0.9: 0.0})
    assert "**equal**" in methods_markdown(runs)
    assert "**equal**" not in methods_markdown(simulate({0.9: 0.0}, n=1)[0])


def test_every_size_of_a_group_is_compared_with_single_neurons_of_the_same_cell():
    rng, runs = np.random.default_rng(0), []
    for size, training, seed in itertools.product([1, 16, 64], ["static", "rigl"], range(5)):
        accuracy = round(88 + seed - (training == "static") - (size == 64) + rng.normal(0, 0.02), 4)
        cell = {"profile": "uniform", "model.topology.init_args.size": size, "training": training}
        runs.append(
            recorded("sharing", "fashion", {**cell, "model.sparsity": 0.9}, seed, accuracy, {}, [0.0] + 3 * [accuracy])
        )
    text = sharing_markdown(Runs(runs))
    assert [text.count(f"**{verdict}**") for verdict in ("equal", "different", "open")] == [2, 2, 0]
    assert "recorded yet" in sharing_markdown(Runs([]))
