import numpy as np
import pytest
from hypothesis import given, settings

from psn_lightning.errors import SettingError
from psn_lightning.topology import DEGREES, GaussianDegree, LayerBudget, SpatialDegree, UniformDegree
from tests.topology.test_wiring import budgets


@pytest.mark.parametrize("family", [*(made() for made in DEGREES), SpatialDegree(inverse=True)], ids=repr)
@settings(max_examples=25, deadline=None)
@given(budget=budgets())
def test_the_number_of_connections_is_exact(family, budget):
    fan_in = family.fan_in(budget, np.random.default_rng(0))
    assert fan_in.sum() == budget.n_reachable
    assert budget.min_fan_in <= fan_in.min() <= fan_in.max() <= budget.n_in


def test_their_shapes():
    budget = LayerBudget(784, 1024, 0.9)
    rng = np.random.default_rng(0)
    normal, flat, bump, dip = (
        family.fan_in(budget, rng)
        for family in (GaussianDegree(5.0), UniformDegree(0.5), SpatialDegree(), SpatialDegree(inverse=True))
    )
    assert normal.std() == pytest.approx(5, rel=0.1)
    assert flat.std() == pytest.approx(78.4 / np.sqrt(12), rel=0.05)
    assert (UniformDegree().fan_in(budget, rng) == 1).mean() > 3 / 8
    assert bump[512] > 2 * bump[200] > 2 * dip[512]
    assert bump[512 + 157] / bump[512] == pytest.approx(np.exp(-0.5), rel=0.02)  # σ = 2 · 78.4 neurons
    assert np.abs(bump - bump[::-1]).max() <= 1


@pytest.mark.parametrize(
    "make", [lambda: GaussianDegree(-1), lambda: UniformDegree(float("nan")), lambda: SpatialDegree(std=0.0)]
)
def test_arguments_out_of_range(make):
    with pytest.raises(SettingError, match=r"std|spread"):
        make()
