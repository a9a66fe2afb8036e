"""Comparison of methods: ranks, tests, costs, from few methods and few seeds as well."""

import itertools

import numpy as np
import pytest
from scipy import stats

from psn_lightning.paper.report.method_figures import draw_methods, kind_of
from psn_lightning.paper.report.method_pages import methods_markdown, table7_markdown
from psn_lightning.paper.report.method_ranks import average_ranks, rank_table
from psn_lightning.paper.report.methods import DENSE, METHOD, SPARSITY, at_sparsity, method_tables, ranking
from psn_lightning.paper.report.runs import Runs, late_accuracy
from psn_lightning.paper.report.table7 import STATEMENTS, statements_table
from tests.paper.report.conftest import recorded

ACCURACY = {"rigl": 88.0, "static random": 87.0, "gmp": 88.4, "set": 87.5}


def run(method, sparsity=0.9, seed=1, accuracy=88.0, ccv=0.1, density=None, kept=1.0):
    own = 0.0 if method == DENSE else sparsity
    metrics = {
        "fan_in/ccv": ccv,
        "gradient/ratio": 2.0,
        "sparsity/realised": own,
        "cost/density": 1 - own if density is None else density,
        "cost/flops": 6e12 * (1 - own),
    }
    for layer in ("fc1", "fc2"):
        metrics |= {f"fan_in/ccv/{layer}": ccv, f"fan_out/ccv/{layer}": 0.3, f"sparsity/realised/{layer}": own}
        metrics |= {f"topology/{what}/{layer}": 0.0 for what in ("dead_neurons", "dead_inputs")}
        metrics |= {f"topology/overlap_with_initial/{layer}": kept}
    cell = {SPARSITY: sparsity, METHOD: method}
    return recorded(
        "methods", "fashion", cell, seed, accuracy, metrics, [0.0, 50.0, accuracy - 0.1, accuracy, accuracy + 0.1]
    )


def grid(methods=ACCURACY, sparsities=(0.9, 0.98), seeds=(1, 2, 3), **more):
    rng = np.random.default_rng(3)
    places = itertools.product(methods.items(), sparsities, seeds)
    noisy = lambda mean, seed: mean + 0.2 * seed + float(rng.normal(0, 0.03))  # noqa: E731
    return Runs([run(m, s, seed, noisy(mean, seed), **more) for (m, mean), s, seed in places])


def rows_of(table):
    return {row[table.columns.index("method")]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_accuracy_is_that_of_the_last_three_epochs():
    assert late_accuracy(run("rigl", accuracy=90.0)) == pytest.approx(90.0)


def test_methods_are_ranked_and_the_dense_network_stands_beside_them():
    runs = Runs([*grid().all, *(run(DENSE, 0.9, seed, 89.0 + 0.2 * seed) for seed in (1, 2, 3))])
    tables = list(method_tables(runs))
    assert [table.title.split(":")[0] for table in tables] == [
        "Methods at 90%", "Networks and costs at 90%", "Methods at 98%", "Networks and costs at 98%",
    ]  # fmt: skip
    for table in (tables[0], tables[2]):  # the dense one, run at 90% alone, is in both
        assert [row[:2] for row in table.rows] == [
            ["–", "dense"], ["1", "gmp"], ["2", "rigl"], ["3", "set"], ["4", "static random"],
        ]  # fmt: skip
    rows = rows_of(tables[0])
    means = [np.mean([late_accuracy(r) for r in runs.having({METHOD: m, SPARSITY: 0.9}).all]) for m in ("gmp", "rigl")]
    assert rows["gmp"]["− rigl"].startswith(f"+{means[0] - means[1]:.2f} [")
    assert rows["rigl"]["− rigl"] == "–"
    assert tables[0].columns.count("p (Holm)") == 2
    costs = rows_of(tables[1])
    assert costs["rigl"]["TFLOP"] == "0.60"
    assert costs["rigl"]["density at the end"] == "0.100 / 0.100"


def test_a_difference_is_tested_with_the_seed_as_pair():
    """Seeds differ by far more than methods; a comparison of means alone would find nothing."""
    runs = at_sparsity(grid({"rigl": 88.0, "static random": 87.8}, sparsities=[0.9]), 0.9)
    contrast = runs.layout(METHOD, late_accuracy).difference("rigl", "static random")
    values = [[late_accuracy(r) for r in runs.having({METHOD: m}).all] for m in ("rigl", "static random")]
    assert contrast.p_not_zero() == pytest.approx(stats.ttest_rel(*values).pvalue)
    assert contrast.p_not_zero() < stats.ttest_ind(*values).pvalue


def test_average_ranks_are_scipys_and_the_critical_difference_is_the_published_one():
    found = average_ranks(grid())
    assert list(found.ranks) == ["gmp", "rigl", "set", "static random"]
    assert list(found.ranks.values()) == [1, 2, 3, 4]
    assert found.blocks == 6
    assert found.p == pytest.approx(stats.friedmanchisquare(*np.tile([[1], [2], [3], [4]], 6)).pvalue)
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 6)), rel=1e-3)  # Demšar, Table 5
    assert rows_of(rank_table(found, "T"))["set"]["within the critical difference of the best"] == "no" or (
        found.critical_difference >= 2
    )


def test_a_method_without_some_block_is_named_and_does_not_hide_the_others():
    runs = grid()
    fewer = Runs(run for run in runs.all if (run.cell[METHOD], run.cell[SPARSITY]) != ("set", 0.98))
    found = average_ranks(fewer)
    assert found.missing == ["set"]
    assert found.blocks == 6
    begun = Runs([*runs.all, run("rigl", 0.99)])  # the first run of the next sparsity
    assert average_ranks(begun).blocks == 6
    assert average_ranks(Runs(runs.all[:1])) is None


def test_one_run_is_enough_for_tables_and_figures():
    for runs in (Runs([run("rigl")]), Runs([run("snip", 0.98), run(DENSE)]), grid({"set": 88.0, "gmp": 87.0})):
        assert "accuracy, % (n)" in methods_markdown(runs)
        assert "**not run**" in table7_markdown(runs)
        assert {"methods-cost-fashion", "methods-ccv-fashion"} <= {name for name, *_ in draw_methods(runs)}


def test_without_runs_the_pages_say_so():
    assert "No run" in methods_markdown(Runs([]))
    assert table7_markdown(Runs([])).count("**not run**") == sum(len(s.methods) for s in STATEMENTS)
    assert list(draw_methods(Runs([]))) == []


def test_the_kind_of_training_is_read_off_the_runs():
    assert kind_of([run(DENSE)]) == "dense"
    assert kind_of([run("gmp", density=0.3)]) == "dense to sparse"
    assert kind_of([run("rigl", kept=0.6)]) == "mask that moves"
    assert kind_of([run("snip")]) == "mask that stays"
    assert ranking(Runs([run("a", accuracy=1.0), run("b", accuracy=2.0)])) == ["b", "a"]


def verdicts(runs):
    return {(row["statement"], method): row["verdict"].strip("*") for method, row in _rows(runs)}


def _rows(runs):
    table = statements_table(runs, "T")
    return [(row[2], dict(zip(table.columns, row, strict=True))) for row in table.rows]


def mask(method, ccv, **more):
    rng = np.random.default_rng(5)
    return [
        run(method, s, seed, 88.0 + float(rng.normal(0, 0.02)), ccv=max(0.0, ccv + float(rng.normal(0, 0.005))), **more)
        for s in (0.9, 0.98) for seed in (1, 2, 3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ccv", "uniform", "emergent"),
    [(1.4, "not reproduced", "reproduced"), (0.11, "reproduced", "not reproduced"), (0.2, "open", "open")],
)
def test_uniform_and_emergent_are_opposites_beside_a_random_mask(ccv, uniform, emergent):
    runs = Runs([*mask("static random", 0.1), *mask("synflow", ccv), *mask("gmp", ccv)])
    found = verdicts(runs)
    assert found["heterogeneity uniform", "synflow"] == uniform
    assert found["heterogeneity emergent", "gmp"] == emergent
    assert found["heterogeneity uniform", "eoi"] == "not run"


def test_collapse_is_read_off_the_sparsest_layer():
    whole = verdicts(Runs([run("snip", 0.99), run("synflow", 0.99)]))
    assert whole["whole layers can be pruned at high sparsity", "snip"] == "not reproduced"
    low = verdicts(Runs([run("snip", 0.9), run("synflow", 0.9)]))  # says nothing about a high sparsity
    assert low["whole layers can be pruned at high sparsity", "snip"] == "open"
    assert whole["no layer is pruned completely", "synflow"] == "reproduced"
    # Where pruning would empty a layer it is refused, and nothing is recorded.
    gone = verdicts(Runs([run("snip"), run("synflow"), run("static random", 0.99)]))
    assert gone["whole layers can be pruned at high sparsity", "snip"] == "open"
    assert gone["no layer is pruned completely", "synflow"] == "open"


def test_a_method_that_varies_much_does_not_hide_the_others():
    rng = np.random.default_rng(3)
    noisy = [
        run(f"noisy {i}", s, seed, 88.0, ccv=2 + float(rng.normal(0, 0.5)))
        for i in range(3) for s in (0.9, 0.98) for seed in (1, 2, 3)
    ]  # fmt: skip
    found = verdicts(Runs([*mask("static random", 0.1), *mask("eoi", 0.12), *mask("gmp", 0.9), *noisy]))
    assert found["heterogeneity uniform", "eoi"] == "reproduced"
    assert found["heterogeneity emergent", "gmp"] == "reproduced"


def test_one_seed_and_a_missing_sparsity_or_rival_decide_nothing():
    one = Runs([*mask("static random", 0.1), run("obd", 0.9, 1, ccv=1.2), run("obd", 0.98, 1, ccv=1.2)])
    assert verdicts(one)["heterogeneity emergent", "obd"] == "open"
    half = Runs([*mask("static random", 0.1), *(r for r in mask("gmp", 1.4) if r.cell[SPARSITY] == 0.9)])
    assert verdicts(half)["heterogeneity emergent", "gmp"] == "open"
    text = "at 99% better than classical sparse starts"
    alone = grid({"dnm": 89.0, "static random": 88.0}, [0.99])
    assert verdicts(alone)[text, "dnm"] == "open"


def test_a_method_that_beats_others_does_so_at_the_sparsity_of_the_statement():
    text = "at 99% better than classical sparse starts"
    means = {"dnm": 89.0, "static random": 88.0, "static uniform": 88.1}
    assert verdicts(grid(means, [0.99]))[text, "dnm"] == "reproduced"
    assert verdicts(grid(means, [0.9]))[text, "dnm"] == "open"
    assert verdicts(grid({**means, "dnm": 87.0}, [0.99]))[text, "dnm"] == "reversed"


def test_what_papers_print_stands_beside_what_was_measured():
    runs = [
        recorded("methods-as-published", "mnist", {METHOD: method}, seed, accuracy + 0.1 * seed)
        for method, accuracy in {"snip 95%": 98.3, "dense": 98.0}.items()
        for seed in (1, 2)
    ]
    runs += [recorded("methods-as-published", "mnist", {METHOD: "cht 99%"}, seed, 98.0) for seed in (1, 2)]
    text = methods_markdown(Runs(runs))
    assert "No run of `psn-train reproduce methods`" in text
    assert "| snip 95% | 1.55 (2) | [" in text
    assert "| 1.6 | −0.05 |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| cht 99% |")]
    *_, best, printed, difference, _ = (cell.strip() for cell in line.split("|"))
    assert printed == "1.52, best"  # the best epoch is compared, not the last three
    assert float(difference.replace("−", "-").replace("+", "")) == pytest.approx(float(best) - 1.52, abs=0.006)
