import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import Exponential, LayerBudget, spread

PHI = (np.sqrt(5) - 1) / 2
BUDGET = LayerBudget(784, 1024, 0.9)
FAN_IN = Exponential().fan_in(BUDGET, np.random.default_rng(0))


@pytest.mark.parametrize("spreading", ["even", "random", "sequential"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fan_in_is_kept_exactly(spreading, data):
    n_in = data.draw(st.integers(1, 400))
    fan_in = np.array(data.draw(st.lists(st.integers(0, n_in), min_size=1, max_size=60)), dtype=np.int64)
    connectivity = spread(fan_in, n_in, spreading, np.random.default_rng(0))  # refuses duplicates itself
    assert np.array_equal(connectivity.fan_in, fan_in)


def test_even_is_equation_8():
    connectivity = spread(FAN_IN, 784, "even", np.random.default_rng(0))
    for i in range(0, 1024, 37):
        k, offset = FAN_IN[i], 784 * ((i * PHI) % 1)
        expected = sorted({int(np.floor(j * 784 / k + offset)) % 784 for j in range(k)})
        mine = connectivity.indices[connectivity.indptr[i] : connectivity.indptr[i + 1]]
        assert np.array_equal(mine, expected)


def test_even_reaches_every_input_about_equally():
    fan_out = spread(FAN_IN, 784, "even", np.random.default_rng(0)).fan_out
    assert fan_out.min() > 60
    assert fan_out.max() < 140


@pytest.mark.parametrize("seed", [42, 123, 456])
def test_random_covers_the_inputs(seed):
    fan_out = spread(FAN_IN, 784, "random", np.random.default_rng(seed)).fan_out
    assert fan_out.min() >= 60
    assert fan_out.max() <= 140
    assert fan_out.std() == pytest.approx(8.7, abs=1)


def test_random_is_unbiased_over_inputs():
    fan_in = np.full(4000, 3)
    fan_out = spread(fan_in, 10, "random", np.random.default_rng(0)).fan_out
    assert fan_out == pytest.approx(1200, rel=0.1)


def test_sequential_leaves_537_inputs_dead():
    connectivity = spread(FAN_IN, 784, "sequential", np.random.default_rng(0))
    assert (connectivity.fan_out == 0).sum() == 537
    assert connectivity.fan_out[0] == 1024


def test_unknown_spreading():
    with pytest.raises(SettingError, match="'diagonal'"):
        spread(FAN_IN, 784, "diagonal", np.random.default_rng(0))
