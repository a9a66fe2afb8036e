"""Laws: coefficients and errors are found in data made by a law."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from psn_lightning.paper.report.law import THE_LAW, fits
from psn_lightning.paper.report.settled_layers import Choices, Layer
from psn_lightning.topology.equilibrium import two_level_bound

SHAPES = [(784, 1024), (1024, 1024), (54, 1024), (1024, 256), (256, 512)]
ERK = Choices("erk")
SCALED = "κ √(s/(1−s))^p σ^a (α/0.3)^b (ΔT/100)^c"


def make_layer(n_in, n_out, s, ccv, network, choices=ERK, name="fc1"):
    return Layer("fashion", "Fashion-MNIST", choices, name, n_in, n_out, s, ccv, 1, network)


def make_layers(law, noise=0.0):
    rng = np.random.default_rng(3)
    return [
        make_layer(n_in, n_out, s, law(s, n_in, n_out) * math.exp(rng.normal(0, noise)), f"{n_in} {s}")
        for n_in, n_out in SHAPES
        for s in (0.8, 0.9, 0.95, 0.98)
    ]


def test_the_coefficients_of_the_law_are_found():
    found = {fit.law: fit for fit in fits(make_layers(lambda s, n_in, n_out: 0.2 * two_level_bound(s)))}
    assert found["κ √(s/(1−s))"].coefficients == pytest.approx([0.2])
    assert found["κ √(s/(1−s))"].error == pytest.approx(1.0)
    assert found["κ"].error > 1.3


def test_another_law_is_distinguished():
    data = make_layers(lambda s, n_in, n_out: 0.2 * two_level_bound(s) ** 0.5 * n_in**-0.3 * n_out**0.1)
    found = {fit.law: fit for fit in fits(data)}
    assert found["κ √(s/(1−s))^p n_in^q n_out^r"].coefficients == pytest.approx([0.2, 0.5, -0.3, 0.1])
    assert found["κ √(s/(1−s))^p n_in^q n_out^r"].error == pytest.approx(1.0)
    assert found[THE_LAW].error > 1.2


def test_scale_and_schedule_are_found():
    """Equation 9 and nn.Linear's scale, three drop fractions and periods: each exponent is found, and predicts."""
    data = []
    for i, (s, linear, fraction, period) in enumerate(
        itertools.product((0.8, 0.9, 0.98), (False, True), (0.1, 0.5), (20, 500))
    ):
        choices = Choices("erk", linear, 1.0, fraction, period)
        scale = math.sqrt((1 - s) / 6) if linear else 1.0
        ccv = 0.3 * two_level_bound(s) ** 0.7 * scale**-0.25 * (fraction / 0.3) ** 0.2 * (period / 100) ** 0.1
        data.append(make_layer(784, 1024, s, ccv, str(i), choices))
    found = {fit.law: fit for fit in fits(data)}
    assert found[SCALED].coefficients == pytest.approx([0.3, 0.7, -0.25, 0.2, 0.1])
    assert found[SCALED].error == pytest.approx(1.0)
    assert [found[SCALED](layer) for layer in data] == pytest.approx([layer.ccv for layer in data])
    assert found[THE_LAW].error > 1.1


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
        data += [make_layer(n_in, n_out, s, ccv, str(network), name=f"fc{i}") for i in range(6)]
    flexible = "κ √(s/(1−s))^p n_in^q n_out^r"
    (grouped,) = [fit.error for fit in fits(data) if fit.law == flexible]
    alone = [dataclasses.replace(layer, network=f"{layer.network} {layer.name}") for layer in data]
    (naive,) = [fit.error for fit in fits(alone) if fit.law == flexible]
    assert math.log(naive) < 0.3 < math.log(grouped)
