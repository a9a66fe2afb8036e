"""The figures of the paper that must reproduce (784 inputs, 1024 neurons, 90%)."""

import numpy as np
import pytest

from psn_lightning.errors import SettingError
from psn_lightning.topology import Bell, Exponential, LayerBudget, Linear, MultiPeak, Quadratic
from psn_lightning.topology.statistics import hub_order

BUDGET = LayerBudget(784, 1024, 0.9)


def fan_in_of(family):
    return family.fan_in(BUDGET, np.random.default_rng(0))


def ccv(fan_in):
    return fan_in.std() / fan_in.mean()


@pytest.mark.parametrize(
    ("profile", "expected_ccv", "expected_ratio"),
    [(Quadratic(), 0.448, 2.2), (Linear(), 0.578, 3.0), (Bell(), 0.667, 4.0), (Exponential(), 0.81, 4.5)],
)
def test_ccv_and_structural_ratio(profile, expected_ccv, expected_ratio):
    fan_in = fan_in_of(profile)
    hubs, specialists = hub_order(fan_in)
    assert ccv(fan_in) == pytest.approx(expected_ccv, abs=0.003)
    assert fan_in[hubs].mean() / fan_in[specialists].mean() == pytest.approx(expected_ratio, abs=0.05)
    assert fan_in.mean() == pytest.approx(78.4, abs=0.05)


def test_exponential_runs_from_247_to_12():
    fan_in = fan_in_of(Exponential())
    assert (fan_in[0], fan_in[-1]) == (247, 12)
    assert fan_in[0] / fan_in[-1] == pytest.approx(20.6, abs=0.05)


def test_bell_runs_from_158_to_7():
    fan_in = fan_in_of(Bell())
    assert (fan_in.max(), fan_in.min()) == (158, 7)
    assert fan_in.argmax() in range(480, 545)


def test_quadratic_floor_gives_the_ccv_of_table_6():
    assert ccv(fan_in_of(Quadratic(floor=0.345))) == pytest.approx(0.25, abs=0.001)


@pytest.mark.parametrize("kind", [Linear, Quadratic, Exponential])
def test_monotonic_inverses_are_mirror_images(kind):
    assert np.array_equal(fan_in_of(kind(inverse=True)), fan_in_of(kind())[::-1])


def test_inverse_bell_is_the_complement():
    x = np.linspace(0, 1, 11)
    assert Bell(inverse=True)(x) == pytest.approx(1 - Bell()(x))


def test_multi_peak_falls_from_extreme_to_uniform():
    ccvs = [ccv(fan_in_of(MultiPeak(peaks))) for peaks in (1, 2, 3, 5, 10, 20)]
    assert ccvs == sorted(ccvs, reverse=True)
    assert ccvs[0] == pytest.approx(3.2, abs=0.1)
    assert ccvs[-1] < 0.1
    extreme = fan_in_of(MultiPeak(1))
    assert 800 < (extreme == 1).sum() < 1000
    assert 0 < (extreme == 784).sum() < 100


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quadratic(floor=1.5),
        lambda: Exponential(rate=-1),
        lambda: Bell(width=0),
        lambda: MultiPeak(peaks=0),
        lambda: MultiPeak(sharpness=float("nan")),
    ],
)
def test_parameters_out_of_range_are_named(make):
    with pytest.raises(SettingError, match=r"floor|rate|width|peaks|sharpness"):
        make()
