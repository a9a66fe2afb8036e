"""Draws of absent positions against sets, and against exact probabilities."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from psn_lightning.dynamics import sampling
from psn_lightning.dynamics.sampling import draw_absent, draw_pairs
from psn_lightning.nn.activity import Activity

position_sets = st.sets(st.integers(0, 80)).map(sorted)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


NOTHING = torch.empty(0, dtype=torch.int64)


def activity(by_neuron, *by_input):
    return Activity(torch.tensor(by_neuron).double(), torch.tensor(by_input).double())


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
    pairs = draw_pairs(activity([1.0] * 2**10, [1.0] * 2**20), NOTHING, 10_000, seeded())  # 2³⁰ positions
    wide = draw_pairs(Activity(torch.ones(2**20), torch.ones(1, 2**20)), NOTHING, 10_000, seeded())
    assert pairs.max() < 2**30 < 2**39 < wide.max() < 2**40
    assert stats.kstest(wide.numpy() / 2**40, "uniform").pvalue > 1e-3


@given(
    taken=st.sets(st.integers(0, 11)).map(sorted),
    count=st.integers(0, 40),
    at_once=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_pairs_are_distinct_and_not_taken(taken, count, at_once, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_AT_ONCE", at_once)
        everything, left = (
            draw_pairs(PAIRS["two groups"], torch.tensor(some, dtype=torch.int64), count, seeded(seed)).tolist()
            for some in ([], taken)
        )
    assert everything == sorted(set(everything))
    assert left == sorted(set(everything) - set(taken))


PAIRS = {
    "one group": activity([1.0, 0.0, 3.0, 0.5], [2.0, 1.0, 0.0]),
    "two groups": activity([1.0, 2.0, 3.0, 0.5], [2.0, 1.0, 0.0], [0.0, 1.0, 5.0]),
    "nothing": activity([0.0, 0.0], [0.0, 1.0]),
    "not finite": activity([float("nan"), 1.0], [float("inf"), 2.0, 1.0]),
}


def probabilities(found):
    by_neuron, by_input = (np.nan_to_num(part.numpy(), posinf=0.0) for part in found)
    groups = np.repeat(by_input, len(by_neuron) // len(by_input), axis=0)
    products = by_neuron[:, None] * groups
    return (products if products.any() else np.ones_like(products)).flatten() / (products.sum() or products.size)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_as_likely_as_the_product_of_its_activities(name):
    expected, generator = probabilities(PAIRS[name]), seeded()
    draws = Counter(draw_pairs(PAIRS[name], NOTHING, 1, generator).item() for _ in range(4000))
    likely = np.flatnonzero(expected)
    assert set(draws) == set(likely)
    assert stats.chisquare([draws[i] for i in likely], 4000 * expected[likely]).pvalue > 1e-3


@pytest.mark.parametrize("at_once", [1, 3, 2**22])
def test_draws_are_independent_of_each_other(at_once, monkeypatch):
    """A pair is among n draws with probability 1 - (1 - p)^n, and two pairs with that of inclusion and exclusion."""
    monkeypatch.setattr(sampling, "_AT_ONCE", at_once)
    expected, generator, n = probabilities(PAIRS["two groups"]), seeded(), 7
    draws = [set(draw_pairs(PAIRS["two groups"], NOTHING, n, generator).tolist()) for _ in range(4000)]
    for i, p in enumerate(expected):
        hits = sum(i in draw for draw in draws)
        assert stats.binomtest(hits, 4000, 1 - (1 - p) ** n).pvalue > 1e-4
    for i, j in [(0, 1), (0, 6), (6, 7)]:
        both = 1 - (1 - expected[i]) ** n - (1 - expected[j]) ** n + (1 - expected[i] - expected[j]) ** n
        assert stats.binomtest(sum({i, j} <= draw for draw in draws), 4000, both).pvalue > 1e-4
