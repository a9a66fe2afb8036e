"""A ring of nearest inputs, and the share of links that left it."""

import numpy as np
import pytest
from scipy import stats

from psn_lightning.errors import SettingError
from psn_lightning.topology import LayerBudget, SmallWorld
from psn_lightning.topology.wirings.drawing import nearest_inputs

BUDGET = LayerBudget(100, 3000, 0.9)
WINDOW = nearest_inputs(100, np.full(3000, 10)).mask()


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_rewired_links_land_anywhere(beta):
    mask = SmallWorld(beta).connect(BUDGET, np.random.default_rng(0)).mask()
    rewired = np.arange(11)
    # Of r rewired links, each goes to one of 90 inputs outside the window or the r inputs that became free.
    expected = (stats.binom(10, beta).pmf(rewired) * rewired * 90 / (90 + rewired)).sum()
    outside = (mask & ~WINDOW).sum(axis=1)
    assert outside.mean() == pytest.approx(expected, abs=4 * outside.std() / np.sqrt(3000))


def test_fully_rewired_is_uniform():
    connectivity = SmallWorld(1.0).connect(BUDGET, np.random.default_rng(0))
    assert stats.chisquare(connectivity.fan_out).pvalue > 0.01
    assert (connectivity.mask() & WINDOW).mean() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("rewiring", [-0.1, 1.1, float("nan")])
def test_a_probability_out_of_range(rewiring):
    with pytest.raises(SettingError, match="rewiring"):
        SmallWorld(rewiring)
