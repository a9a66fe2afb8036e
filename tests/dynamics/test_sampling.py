"""Draws of absent positions against sets, and against exact probabilities."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from psn_lightning.dynamics.sampling import draw_absent

position_sets = st.sets(st.integers(0, 80)).map(sorted)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(taken=position_sets, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_absent_positions_are_distinct_absent_and_as_many_as_asked(taken, share, seed):
    count = int(share * (81 - len(taken)))
    drawn = draw_absent(torch.tensor(taken, dtype=torch.int64), 81, count, seeded(seed)).tolist()
    assert drawn == sorted(set(drawn) - set(taken))
    assert len(drawn) == count
    assert all(0 <= position < 81 for position in drawn)


@pytest.mark.parametrize("count", [2, 4])  # drawn with and without repetitions
def test_all_sets_of_absent_positions_are_equally_likely(count):
    generator, taken = seeded(), torch.tensor([0, 3, 4])
    draws = Counter(tuple(draw_absent(taken, 9, count, generator).tolist()) for _ in range(3000))
    possible = list(combinations([1, 2, 5, 6, 7, 8], count))
    assert set(draws) == set(possible)
    assert stats.chisquare([draws[each] for each in possible]).pvalue > 1e-3


def test_positions_beyond_32_bits():
    n_positions, taken = 2**41, torch.tensor([0, 2**31 - 1, 2**31, 2**40, 2**41 - 1])
    drawn = draw_absent(taken, n_positions, 10_000, seeded())
    assert len(drawn.unique()) == 10_000
    assert not torch.isin(drawn, taken).any()
    assert stats.kstest(drawn.numpy() / n_positions, "uniform").pvalue > 1e-3
