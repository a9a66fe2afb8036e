from typing import get_args

import numpy as np
import pytest
from scipy import stats
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.init import InitName, initial_values
from psn_lightning.topology import Connectivity, Exponential, LayerBudget, spread


@pytest.fixture(scope="module")
def connectivity():
    rng = np.random.default_rng(0)
    return spread(Exponential().fan_in(LayerBudget(784, 1024, 0.9), rng), 784, "random", rng)


def test_mean_fan_in_is_equation_9(connectivity):
    values = initial_values(connectivity, "mean_fan_in", np.random.default_rng(0))
    assert values.std() == pytest.approx(np.sqrt(2 / 78.4), rel=0.01)
    hub = values[: connectivity.fan_in[:100].sum()]
    assert hub.std() == pytest.approx(np.sqrt(2 / 78.4), rel=0.03)  # the same for hubs


def test_per_neuron_scales_with_each_fan_in(connectivity):
    values = initial_values(connectivity, "per_neuron", np.random.default_rng(0))
    unit = values / np.repeat(np.sqrt(2 / connectivity.fan_in), connectivity.fan_in)
    assert unit.std() == pytest.approx(1, rel=0.01)


def test_linear_is_the_distribution_of_torchs_linear(connectivity):
    values = initial_values(connectivity, "linear", np.random.default_rng(0))
    dense = nn.Linear(784, 1024).weight.detach().numpy()
    assert values.std() == pytest.approx(dense.std(), rel=0.01)
    assert np.abs(values).max() <= 1 / 28
    assert stats.kstest(values, stats.uniform(-1 / 28, 2 / 28).cdf).pvalue > 0.01
    equation_9 = initial_values(connectivity, "mean_fan_in", np.random.default_rng(0))
    assert values.std() / equation_9.std() == pytest.approx(np.sqrt(0.1 / 6), rel=0.01)


def test_neurons_without_inputs_are_no_trouble():
    empty = Connectivity.from_mask(np.zeros((3, 3), dtype=bool))
    for init in get_args(InitName):
        assert initial_values(empty, init, np.random.default_rng(0)).size == 0


def test_unknown_init(connectivity):
    with pytest.raises(SettingError, match="init 'xavier'"):
        initial_values(connectivity, "xavier", np.random.default_rng(0))
