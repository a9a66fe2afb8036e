import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import (
    Bell,
    Bernoulli,
    Exponential,
    LayerBudget,
    Linear,
    Lognormal,
    MultiPeak,
    PowerLaw,
    Quadratic,
    Shuffled,
    Uniform,
    sparsity_ceiling,
)

FAMILIES = [
    Linear(),
    Linear(inverse=True),
    Quadratic(),
    Quadratic(inverse=True),
    Exponential(),
    Exponential(inverse=True),
    Bell(),
    Bell(inverse=True),
    MultiPeak(peaks=3, sharpness=200),
    Uniform(),
    Bernoulli(),
    PowerLaw(0.05),
    Lognormal(0.05),
    Shuffled(Linear()),
]


@pytest.mark.parametrize(
    ("n_in", "ceilings"), [(784, (0.9987, 0.9936, 0.9872, 0.9745)), (54, (0.9815, 0.9074, 0.8148, 0.6296))]
)
def test_ceiling_as_in_table_3(n_in, ceilings):
    assert [round(sparsity_ceiling(n_in, k), 4) for k in (1, 5, 10, 20)] == list(ceilings)


def test_sparsity_above_the_ceiling_names_the_largest():
    with pytest.raises(SettingError, match=r"0\.999 .* 0\.998724, .*784"):
        LayerBudget(784, 10, 0.999)
    LayerBudget(784, 10, 1 - 1 / 784)  # the ceiling itself is allowed


@pytest.mark.parametrize("family", [f for f in FAMILIES if not isinstance(f, Lognormal | PowerLaw)], ids=repr)
def test_above_the_ceiling_the_clamp_leaves_the_minimum_and_hubs(family):
    """The paper's 99.9% on 784 inputs: 0.784 connections per neuron, of which the clamp makes one or a few."""
    budget = LayerBudget(784, 1024, 0.999, may_exceed_ceiling=True)
    fan_in = family.fan_in(budget, np.random.default_rng(0))
    assert fan_in.min() == 1
    assert 1 <= fan_in.mean() < 1.5


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_out_of_range(sparsity):
    with pytest.raises(SettingError, match=r"sparsity .* is not in \[0, 1\)"):
        LayerBudget(784, 10, sparsity)


@pytest.mark.parametrize("min_fan_in", [0, -1, 785])
def test_min_fan_in_out_of_range(min_fan_in):
    with pytest.raises(SettingError, match="min_fan_in"):
        LayerBudget(784, 10, 0.5, min_fan_in)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_family_stays_within_its_clamps(family, data):
    n_in = data.draw(st.integers(1, 300))
    n_out = data.draw(st.integers(1, 200))
    min_fan_in = data.draw(st.integers(1, n_in))
    sparsity = data.draw(st.floats(0, 1 - min_fan_in / n_in, exclude_max=False))
    budget = LayerBudget(n_in, n_out, min(sparsity, 0.999), min_fan_in)
    try:
        fan_in = family.fan_in(budget, np.random.default_rng(0))
    except SettingError:
        assert isinstance(family, Lognormal | PowerLaw)  # a CCV that these clamps cannot give
        return
    assert fan_in.shape == (n_out,)
    assert fan_in.dtype == np.int64
    assert fan_in.min() >= min_fan_in
    assert fan_in.max() <= n_in
