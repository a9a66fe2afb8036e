"""Laws: coefficients and errors are found in data made by a law."""

import dataclasses
import math

import numpy as np
import pytest

from psn_lightning.paper.report.law import THE_LAW, Layer, fits, layers
from psn_lightning.paper.report.runs import Runs
from psn_lightning.topology.equilibrium import two_level_bound

SHAPES = [(784, 1024), (1024, 1024), (54, 1024), (1024, 256), (256, 512)]


def make_layers(law, noise=0.0):
    rng = np.random.default_rng(3)
    return [
        Layer(
            "fashion",
            "erk",
            "fc1",
            n_in,
            n_out,
            s,
            law(s, n_in, n_out) * math.exp(rng.normal(0, noise)),
            1,
            f"{n_in} {s}",
            "Fashion-MNIST",
        )
        for n_in, n_out in SHAPES
        for s in (0.8, 0.9, 0.95, 0.98)
    ]


def test_the_coefficients_of_the_law_are_found():
    found = {fit.law: fit for fit in fits(make_layers(lambda s, n_in, n_out: 0.2 * two_level_bound(s)))}
    assert found[THE_LAW].coefficients == pytest.approx([0.2])
    assert found[THE_LAW].error == pytest.approx(1.0)
    assert found["κ"].error > 1.3


def test_another_law_is_distinguished():
    data = make_layers(lambda s, n_in, n_out: 0.2 * two_level_bound(s) * n_in**-0.3)
    found = {fit.law: fit for fit in fits(data)}
    assert found["κ √(s/(1−s)) n_in^q"].coefficients == pytest.approx([0.2, -0.3])
    assert found["κ √(s/(1−s)) n_in^q"].error == pytest.approx(1.0)
    assert found[THE_LAW].error > 1.2


def test_the_error_is_the_noise_of_the_data():
    found = fits(make_layers(lambda s, n_in, n_out: two_level_bound(s), noise=0.2))
    (error,) = [fit.error for fit in found if fit.law == THE_LAW]
    assert math.log(error) == pytest.approx(0.2, rel=0.35)


def test_few_layers_have_no_fit():
    assert fits(make_layers(lambda s, n_in, n_out: 1.0)[:7]) == []


def test_the_error_is_of_networks_left_out_whole():
    """Sister layers share the noise of their network: with one of them left out alone, the others give it away."""
    rng, data = np.random.default_rng(1), []
    for network, s in enumerate([0.8, 0.9, 0.95, 0.98] * 2):
        n_in, n_out, miss = *rng.integers(50, 2000, 2).tolist(), math.exp(rng.normal(0, 0.3))
        ccv = two_level_bound(s) * miss
        data += [
            Layer("fashion", "erk", f"fc{i}", n_in, n_out, s, ccv, 1, str(network), "Fashion-MNIST") for i in range(6)
        ]
    flexible = "κ √(s/(1−s))^p n_in^q n_out^r"
    (grouped,) = [fit.error for fit in fits(data) if fit.law == flexible]
    alone = [dataclasses.replace(layer, network=f"{layer.network} {layer.name}") for layer in data]
    (naive,) = [fit.error for fit in fits(alone) if fit.law == flexible]
    assert math.log(naive) < 0.3 < math.log(grouped)


FIGURES = {f"{key}/fc{i}": value for i in (1, 2) for key, value in (("fan_in/ccv", 0.4), ("sparsity/realised", 0.9))}


@pytest.mark.parametrize(
    ("reproduction", "key", "values", "n"),
    [
        ("equilibrium", "start", ["erk", "lognormal"], 1),
        ("rigl-init", "start", ["erk", "uniform", "equilibrium"], 2),
        ("equilibrium-variants", "variant", ["canonical", "no return"], 1),
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
