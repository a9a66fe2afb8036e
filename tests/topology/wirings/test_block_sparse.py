"""Whole blocks: all or none of each, in the number that is nearest to the budget."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology import (
    Bernoulli,
    BlockSparse,
    Diagonals,
    LayerBudget,
    Orthogonal,
    ScaleFree,
    SmallWorld,
    Spread,
    Uniform,
)

LAYOUTS = [Bernoulli(), Uniform(), SmallWorld(), ScaleFree(), Diagonals()]


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 8), rows=st.integers(1, 12), columns=st.integers(1, 12), share=st.floats(0, 1),
    min_fan_in=st.integers(1, 8),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*whole blocks")
def test_blocks_are_whole_and_as_many_as_fit(layout, size, rows, columns, share, min_fan_in):
    n_in, n_out = columns * size, rows * size
    min_fan_in = min(min_fan_in, n_in)
    budget = LayerBudget(n_in, n_out, share * (1 - min_fan_in / n_in), min_fan_in)
    mask = BlockSparse(size, layout).connect(budget, np.random.default_rng(0)).mask()
    inside = mask.reshape(rows, size, columns, size).sum(axis=(1, 3))
    assert set(np.unique(inside)) <= {0, size**2}
    needed = rows * -(-min_fan_in // size)
    assert (inside > 0).sum() == max(round(budget.n_connections / size**2), needed)
    assert mask.sum(axis=1).min() >= min_fan_in
    in_row = (inside > 0).sum(axis=1)
    if isinstance(layout, Uniform | Diagonals):
        assert in_row.max() - in_row.min() <= 1


def test_diagonals_balance_the_columns_as_well():
    mask = BlockSparse(4, Diagonals()).connect(LayerBudget(64, 128, 0.75), np.random.default_rng(0)).mask()
    assert set(mask.sum(axis=1)) == {16}
    assert set(mask.sum(axis=0)) == {32}


def test_blocks_of_one_are_the_layout_itself():
    budget = LayerBudget(50, 40, 0.9)
    for layout in (Bernoulli(), Uniform()):
        expected = Spread(layout).connect(budget, np.random.default_rng(1))
        assert BlockSparse(1, layout).connect(budget, np.random.default_rng(1)) == expected
    expected = SmallWorld().connect(budget, np.random.default_rng(1))
    assert BlockSparse(1, SmallWorld()).connect(budget, np.random.default_rng(1)) == expected


def test_it_says_by_how_much_it_misses():
    with pytest.warns(UserWarning, match=r"80,384 connections .* 102 more than the target"):
        BlockSparse(16).connect(LayerBudget(784, 1024, 0.9), np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BlockSparse(16).connect(LayerBudget(1024, 1024, 0.875), np.random.default_rng(0))


def test_a_size_that_does_not_divide_is_refused_with_those_that_do():
    with pytest.raises(UnreachableError, match=r"784 inputs and 1024 neurons: use a size of 1, 2, 4, 8, 16$"):
        BlockSparse(32).connect(LayerBudget(784, 1024, 0.9), np.random.default_rng(0))
    with pytest.raises(UnreachableError, match=r"use a size of 1, 2$"):
        BlockSparse().connect(LayerBudget(54, 1024, 0.9), np.random.default_rng(0))
    with pytest.raises(SettingError, match="size 0"):
        BlockSparse(0)


def test_a_layout_that_brings_weights_is_refused():
    with pytest.raises(SettingError, match="layout Orthogonal of BlockSparse brings weights"):
        BlockSparse(4, Orthogonal()).connect(LayerBudget(64, 64, 0.5), np.random.default_rng(0))
