import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology.equilibrium import (
    LAW_EXPONENTS,
    LAW_FACTOR,
    MEASURED,
    PAPER_TABLE_4,
    Trajectory,
    equilibrium,
    law,
    settlement,
    two_level_bound,
)


@pytest.mark.parametrize(("sparsity", "bound"), [(0.8, 2.0), (0.9, 3.0), (0.95, 4.36), (0.98, 7.0)])
def test_two_level_bound(sparsity, bound):
    assert two_level_bound(sparsity) == pytest.approx(bound, abs=0.005)


def test_the_papers_table_stays_below_the_bound():
    assert all(ccv < two_level_bound(s) for row in PAPER_TABLE_4.values() for s, ccv in row.items())


def test_look_up_of_the_paper():
    assert equilibrium("paper", "fashion", 0.9) == 2.52
    assert equilibrium("paper", "forest", 0.1 * 9) == 2.10  # float noise in the key does not matter


def test_nothing_is_interpolated():
    with pytest.raises(SettingError, match=r"sparsity 0\.85 of fashion"):
        equilibrium("paper", "fashion", 0.85)


def test_where_we_have_measured_it_is_our_value_and_elsewhere_the_law():
    assert equilibrium("measured", "fashion", 0.9) == MEASURED["fashion"][0.9]
    assert equilibrium("measured", "fashion", 0.85) == law(0.85)
    assert law(0.9) == pytest.approx(LAW_FACTOR * 3 ** LAW_EXPONENTS[0])
    assert law(0.9, 0.5) == pytest.approx(law(0.9) * 0.5 ** LAW_EXPONENTS[1])


@given(st.floats(0, 0.999), st.floats(0, 0.999), st.floats(0.01, 100))
def test_the_law_grows_with_the_sparsity_and_stays_below_the_bound(a, b, scale):
    assert (law(a, scale) <= law(b, scale)) == (a <= b) or law(a, scale) == law(b, scale)
    assert law(a, scale) <= two_level_bound(a)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_first_weights_without_a_scale_are_refused(scale):
    with pytest.raises(SettingError, match="weight_scale"):
        law(0.9, scale)


def test_what_is_unknown_is_named():
    with pytest.raises(SettingError, match="dataset 'cifar'"):
        equilibrium("measured", "cifar", 0.9)
    with pytest.raises(SettingError, match="table 'ours'"):
        equilibrium("ours", "fashion", 0.9)


def settled(ccv, contested):
    return settlement(Trajectory(list(range(len(ccv))), ccv, contested))


def test_a_still_trajectory_has_settled_at_its_mean():
    result = settled([0.2, 0.5, 0.80, 0.82, 0.81, 0.80], [0.3] * 6)
    assert result.converged
    assert result.first == 2  # the last four updates make up the turnover
    assert result.ccv == pytest.approx(0.8075)
    assert result.drift == pytest.approx(0.02 / 0.8075)


def test_a_moving_trajectory_has_not():
    result = settled([0.2, 0.4, 0.6, 0.8, 1.0], [0.5] * 5)
    assert not result.converged
    assert (result.first, result.ccv) == (3, pytest.approx(0.9))


def test_a_schedule_that_fades_out_does_not_make_an_equilibrium():
    ccv = [0.5, 0.9, 1.1, 1.12] + [1.12] * 50
    assert not settled(ccv, [0.3, 0.2, 0.1, 0.05] + [0.001] * 50).converged
    assert settled(ccv, [0.3, 0.2, 0.1, 0.05] + [0.05] * 50).converged


def test_no_fan_in_at_all_is_still():
    assert settled([0.0, 0.0], [0.6, 0.6]).drift == 0
