"""Layers of canonical RigL from unstructured masks are found in the record, with their choices."""

import pytest

from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.settled_layers import Choices, layers

FIGURES = {f"{key}/fc{i}": value for i in (1, 2) for key, value in (("fan_in/ccv", 0.4), ("sparsity/realised", 0.9))}


@pytest.mark.parametrize(
    ("reproduction", "key", "values", "n"),
    [
        ("equilibrium", "start", ["erk", "lognormal"], 1),
        ("rigl-init", "start", ["erk", "uniform", "equilibrium"], 2),
        ("equilibrium-variants", "variant", ["canonical", "drop fraction 0.5", "period 20", "no return"], 3),
        ("methods", "method", ["rigl", "rigl erk", "rigl equilibrium", "rigl itop", "set"], 2),
        ("gse", "method", ["rigl", "gse"], 1),
        ("equilibrium-combinations", "choices", ["unseen"], 0),
        ("static", "profile", ["random"], 0),
    ],
)
def test_only_canonical_runs_from_unstructured_masks_count(made, reproduction, key, values, n):
    runs = made(reproduction, "fashion", key, dict.fromkeys(values, (89.0, FIGURES)), seeds=(42, 123))
    found = layers(runs)
    assert len(found) == 2 * n
    assert all(layer.n == 2 for layer in found)
    assert {(layer.n_in, layer.n_out) for layer in found} <= {(784, 1024), (1024, 1024)}


def test_widths_come_from_the_cell_and_seeds_of_a_layer_are_averaged(made):
    figures = (89.0, FIGURES)
    shapes = made("equilibrium-shapes", "fashion", "model.hidden", {"[256, 512]": figures}, seeds=(42,))
    assert [(layer.n_in, layer.n_out) for layer in layers(shapes)] == [(784, 256), (256, 512)]
    two = made("equilibrium", "fashion", "start", {"erk": figures}, seeds=(42, 123))
    (first, _) = layers(two)
    assert first.n == 2


def test_a_computation_that_two_reproductions_share_counts_once(made):
    both = [
        made(name, "fashion", "start", {"erk": (89.0, FIGURES)}, seeds=(42, 123))
        for name in ("equilibrium", "rigl-init")
    ]
    (first, _) = layers(Runs([*both[0].all, *both[1].all]))
    assert first.n == 2


def test_growth_that_does_not_see_is_not_canonical(made):
    assert layers(made("table4", "fashion", "start", {"erk": (89.0, FIGURES)})) == []


def test_starts_count_under_canonical_growth_and_have_nn_linears_scale(made):
    def start(growth, **cells):
        cells = {name: (accuracy, FIGURES) for name, accuracy in cells.items()}
        return made("starts", "fashion", "start", cells, 0.0, (1001,), cell={"growth": growth}).all

    found = layers(Runs([*start("canonical", shuffled=88.5, erk=89.0), *start("unseen", erk=88.0)]))
    assert [layer.choices for layer in found] == [Choices("erk", linear=True)] * 2
    assert found[0].weight_scale == pytest.approx((0.1 / 6) ** 0.5)


def test_a_factor_of_the_first_weights_is_their_scale(made):
    runs = made("equilibrium-variants", "fashion", "variant", {"init scale 0.5": (89.0, FIGURES)})
    assert [layer.weight_scale for layer in layers(runs)] == [0.5, 0.5]
