"""Groups share their inputs; the number of connections is the nearest that they can have; no input is missed."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology import (
    Bell,
    Bernoulli,
    BlockSparse,
    Exponential,
    Grouped,
    LayerBudget,
    Orthogonal,
    ReceptiveField,
    ScaleFree,
    Spread,
    Uniform,
)
from psn_lightning.topology.wirings.grouped import deal_inputs

LAYOUTS = [Uniform(), Bernoulli(), Bell(), Exponential(), ReceptiveField(), ScaleFree()]


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(1, 9), n_groups=st.integers(1, 12), n_in=st.integers(1, 40), share=st.floats(0, 1),
    min_fan_in=st.integers(1, 8), neurons=st.sampled_from(["contiguous", "interleaved"]),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*connections of groups")
def test_groups_share_inputs_and_the_count_is_the_nearest(layout, size, n_groups, n_in, share, min_fan_in, neurons):
    min_fan_in = min(min_fan_in, n_in)
    budget = LayerBudget(n_in, n_groups * size, share * (1 - min_fan_in / n_in), min_fan_in)
    made = Grouped(size, layout, neurons=neurons).connect(budget, np.random.default_rng(0))
    expected = np.arange(budget.n_out) // size if neurons == "contiguous" else np.arange(budget.n_out) % n_groups
    assert np.array_equal(made.groups, expected)
    mask = made.mask()
    for group in range(n_groups):
        own = mask[made.groups == group]
        assert len(own) == size
        assert (own == own[0]).all()
    assert made.n_connections == size * max(round(budget.n_connections / size), n_groups * min_fan_in)
    assert made.fan_in.min() >= min_fan_in
    if isinstance(layout, Uniform):
        assert np.ptp(made.fan_in) <= 1


@given(fan_in=st.lists(st.integers(0, 20), min_size=1, max_size=30), n_in=st.integers(1, 20), seed=st.integers(0, 9))
def test_dealt_inputs_are_read_equally_often(fan_in, n_in, seed):
    fan_in = np.minimum(fan_in, n_in)
    inputs = deal_inputs(fan_in, n_in, np.random.default_rng(seed))
    for own in np.split(inputs, np.cumsum(fan_in)[:-1]):
        assert (np.diff(own) > 0).all()
    assert np.ptp(np.bincount(inputs, minlength=n_in)) <= 1


def test_no_input_is_dead_as_soon_as_there_are_connections_enough():
    budget = LayerBudget(784, 1024, 0.98)
    even, random = (
        Grouped(16, Exponential(), inputs).connect(budget, np.random.default_rng(0)) for inputs in ("even", "random")
    )
    assert even.fan_out.min() > 0
    assert random.fan_out.min() == 0
    assert even.n_connections == random.n_connections == 16 * round(budget.n_connections / 16)


def test_two_decks_are_not_dealt_alike():
    """With K inputs that divide n_in, equal decks would give equal groups."""
    grid = Grouped(2, Uniform()).connect(LayerBudget(64, 64, 0.75), np.random.default_rng(0)).grid()
    assert len({tuple(row) for row in np.split(grid.indices, grid.indptr[1:-1])}) == 32


def test_random_groups_of_one_are_the_family():
    budget = LayerBudget(50, 40, 0.9)
    made = Grouped(1, Bernoulli(), "random").connect(budget, np.random.default_rng(1))
    assert made.with_groups(None) == Spread(Bernoulli()).connect(budget, np.random.default_rng(1))


def test_blocks_are_groups_whose_inputs_come_in_blocks():
    made = BlockSparse(8).connect(LayerBudget(64, 64, 0.75), np.random.default_rng(0))
    assert np.array_equal(made.groups, np.arange(64) // 8)


def test_what_it_cannot_have_is_refused():
    with pytest.raises(UnreachableError, match=r"30 neurons of fc1: use a size of 1, 2, 3, 5, 6, 10, 15, 30$"):
        Grouped(16).connect(LayerBudget(784, 30, 0.9, name="fc1"), np.random.default_rng(0))
    with pytest.raises(SettingError, match="layout Orthogonal of Grouped brings weights"):
        Grouped(4, Orthogonal()).connect(LayerBudget(64, 64, 0.5), np.random.default_rng(0))
    odd = ((4, Uniform(), "odd"), (4, Uniform(), "even", "odd"))
    for arguments, named in (((0,), "size 0"), *((arguments, "'odd'") for arguments in odd)):
        with pytest.raises(SettingError, match=named):
            Grouped(*arguments)
    with pytest.raises(SettingError, match="no effect on ScaleFree"):
        Grouped(4, ScaleFree(), "random")


def test_a_miss_that_is_noticed_is_said():
    with pytest.warns(UserWarning, match=r"32 connections of groups of 16, 7 more than the target"):
        Grouped(16).connect(LayerBudget(10, 16, 0.84375), np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Grouped(16).connect(LayerBudget(784, 1024, 0.9), np.random.default_rng(0))
