"""What holds for every wiring, whatever the layer; and what is asked of a wiring of the user."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import (
    WIRINGS,
    Bell,
    Bernoulli,
    BlockSparse,
    Connectivity,
    Dendritic,
    Diagonals,
    Grouped,
    LayerBudget,
    Lognormal,
    MultiPeak,
    Orthogonal,
    ReceptiveField,
    ScaleFree,
    SmallWorld,
    Spread,
    Topology,
    Uniform,
    UniformDegree,
    Wired,
    Wiring,
    connect_layer,
    spread,
)
from tests.topology.drawing import seeds, sizes

EVERY = [
    ReceptiveField(),
    ReceptiveField(0.0, Bell()),
    ReceptiveField(1.0, MultiPeak()),
    SmallWorld(),
    SmallWorld(1.0, Bernoulli()),
    ScaleFree(),
    Dendritic(),
    Dendritic(7, 0.3, UniformDegree(), "spatial_gaussian"),
    Dendritic(2, 0.0, Bell(), "spatial_inversegaussian"),
    BlockSparse(1),
    Grouped(1),
    Grouped(1, Bernoulli(), "random"),
    Orthogonal(),
    Diagonals(),
    Diagonals("even"),
    Spread(Bernoulli(), "even"),
]


@st.composite
def budgets(draw):
    n_in, n_out = draw(sizes(high=60)), draw(sizes(high=60))
    min_fan_in = draw(st.one_of(st.just(1), sizes(high=n_in)))
    exceeds = draw(st.booleans())
    share = draw(st.one_of(st.just(0.0), st.floats(0, 1), st.just(1.0)))
    sparsity = share * (0.999 if exceeds else 1 - min_fan_in / n_in)
    return LayerBudget(n_in, n_out, sparsity, min_fan_in, may_exceed_ceiling=exceeds)


def test_every_wiring_is_tried():
    assert {type(wiring) for wiring in EVERY} == {*WIRINGS, Spread}


@pytest.mark.filterwarnings("ignore:.*whole blocks of 1 × 1")  # above the ceiling the target is missed by all
@pytest.mark.filterwarnings("ignore:.*connections of groups of 1")
@pytest.mark.parametrize("wiring", EVERY, ids=repr)
@settings(max_examples=15, deadline=None)
@given(budget=budgets(), seed=seeds)
@example(LayerBudget(1, 1, 0.0), 0)
@example(LayerBudget(1, 300, 0.0), 0)
@example(LayerBudget(300, 1, 0.99), 0)
@example(LayerBudget(784, 100, 0.9, 20), 0)
@example(LayerBudget(100, 784, 0.9, 10), 0)
def test_connections_are_exact_and_every_neuron_has_its_minimum(wiring, budget, seed):
    connectivity, values = connect_layer(wiring, budget, np.random.default_rng(seed))
    assert (connectivity.n_in, connectivity.n_out) == (budget.n_in, budget.n_out)
    assert connectivity.n_connections == max(budget.n_connections, budget.n_out * budget.min_fan_in)
    assert connectivity.fan_in.min() >= budget.min_fan_in
    again = connect_layer(wiring, budget, np.random.default_rng(seed))
    assert again.connectivity == connectivity
    assert np.array_equal(again.values, values) if isinstance(wiring, Orthogonal) else values is None


@pytest.mark.parametrize("made", [ReceptiveField, SmallWorld, Dendritic])
@pytest.mark.parametrize("family", [Lognormal(0.7), Bell(), Uniform()], ids=repr)
def test_the_degree_is_any_family(made, family):
    budget = LayerBudget(200, 150, 0.9)
    fan_in = made(degree=family).connect(budget, np.random.default_rng(5)).fan_in
    assert np.array_equal(fan_in, Spread(family).connect(budget, np.random.default_rng(5)).fan_in)


def test_a_family_with_its_spreading_is_a_wiring():
    budget, family = LayerBudget(50, 40, 0.8), Lognormal(0.5)
    rng = np.random.default_rng(3)
    expected = spread(family.fan_in(budget, rng), 50, "even", rng)
    assert Spread(family, "even", exact=False).connect(budget, np.random.default_rng(3)) == expected
    assert Topology(family, 0.8).connect([50, 40, 2], "even", 3)[0] == Spread(family, "even", exact=False).connect(
        budget, np.random.default_rng([3, 0])
    )


def test_a_network_of_a_wiring_has_its_weights():
    topology = Topology(Orthogonal(), 0.9)
    layers = topology.wire([30, 40, 50, 2], "random", 1)
    assert [layer.values.size for layer in layers] == [120, 200]
    assert [layer.connectivity for layer in layers] == topology.connect([30, 40, 50, 2], "random", 1)


def test_a_spreading_without_effect_is_refused():
    with pytest.raises(SettingError, match="spreading even has no effect on SmallWorld"):
        Topology(SmallWorld()).connect([30, 40, 2], "even", 0)


class Made(Wiring):
    """Returns what it is given."""

    def __init__(self, made):
        self.made = made

    def connect(self, budget, rng):
        return self.made


def test_a_network_that_misses_its_sparsity_says_so():
    with pytest.warns(UserWarning, match=r"fc1: target sparsity 0\.9000, realised sparsity 0\.0000: Made makes"):
        Topology(Made(Connectivity.full(4, 3)), 0.9, above_ceiling="clamp").connect([4, 3, 2], "random", 0)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (np.ones((3, 4), dtype=bool), "returned ndarray"),
        (Connectivity.full(3, 4), "made 4 neurons of 3 inputs, but layer has 3 of 4"),
        (Wired(Connectivity.full(4, 3), np.ones(5)), r"values of shape \(5,\) for 12 connections"),
    ],
)
def test_what_a_wiring_of_the_user_returns_is_checked(made, reason):
    with pytest.raises(SettingError, match=reason):
        connect_layer(Made(made), LayerBudget(4, 3, 0.0), np.random.default_rng(0))
