"""Draws of pairs of a neuron and an input, against sets and exact probabilities."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from psn_lightning.dynamics import pairs
from psn_lightning.dynamics.pairs import draw_pairs
from psn_lightning.nn.activity import Activity

NOTHING = torch.empty(0, dtype=torch.int64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def activity(by_neuron, *by_input):
    return Activity(torch.tensor(by_neuron, dtype=torch.float64), torch.tensor(by_input, dtype=torch.float64))


PAIRS = {
    "one group": activity([1.0, 0.0, 3.0, 0.5], [2.0, 1.0, 0.0]),
    "two groups": activity([1.0, 2.0, 3.0, 0.5], [2.0, 1.0, 0.0], [0.0, 1.0, 5.0]),
    "alike": activity([2.0, 2.0, 2.0], [1.0, 1.0]),
    "nothing": activity([0.0, 0.0], [0.0, 1.0]),
    "no group has both": activity([1.0, 0.0], [0.0, 0.0], [1.0, 1.0]),
    "not finite": activity([float("nan"), 1.0], [float("inf"), 2.0, 1.0]),
    "very large": activity([1e308, 1e308], [1e308, 1e307]),
    "very small": activity([2e-308, 1e-308], [3e-308, 2e-308]),
}


def probabilities(found):
    by_neuron, by_input = (np.nan_to_num(part.numpy(), posinf=0.0) for part in found)
    by_neuron, by_input = (part / (part.max() or 1.0) for part in (by_neuron, by_input))
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


@pytest.mark.parametrize("most_neurons", [1, 2, 2**16])
def test_draws_are_independent_of_each_other(most_neurons, monkeypatch):
    """A pair is among n draws with probability 1 - (1 - p)^n, and two pairs with that of inclusion and exclusion."""
    monkeypatch.setattr(pairs, "_MOST_NEURONS", most_neurons)
    expected, generator, n = probabilities(PAIRS["two groups"]), seeded(), 7
    draws = [set(draw_pairs(PAIRS["two groups"], NOTHING, n, generator).tolist()) for _ in range(4000)]
    for i, p in enumerate(expected):
        hits = sum(i in draw for draw in draws)
        assert stats.binomtest(hits, 4000, 1 - (1 - p) ** n).pvalue > 1e-4
    for i, j in [(0, 1), (0, 3), (0, 7), (3, 8)]:  # of one neuron, of two, of two groups
        both = 1 - (1 - expected[i]) ** n - (1 - expected[j]) ** n + (1 - expected[i] - expected[j]) ** n
        assert stats.binomtest(sum({i, j} <= draw for draw in draws), 4000, both).pvalue > 1e-4


@given(
    taken=st.sets(st.integers(0, 11)).map(sorted),
    count=st.integers(0, 40),
    most_neurons=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_pairs_are_distinct_and_not_taken(taken, count, most_neurons, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_MOST_NEURONS", most_neurons)
        everything, left = (
            draw_pairs(PAIRS["two groups"], torch.tensor(some, dtype=torch.int64), count, seeded(seed)).tolist()
            for some in ([], taken)
        )
    assert everything == sorted(set(everything))
    assert left == sorted(set(everything) - set(taken))


def test_many_pairs_are_cut_into_blocks_of_neurons(monkeypatch):
    """Each neuron gets its share, whichever block it is in; blocks with much activity have few neurons."""
    monkeypatch.setattr(pairs, "_AT_ONCE", 2**10)
    monkeypatch.setattr(pairs, "_PER_INPUT", 0)
    monkeypatch.setattr(pairs, "_MOST_NEURONS", 7)
    by_neuron = torch.linspace(0.1, 3, 50).double().square()
    sizes = np.diff(pairs._cut(by_neuron.numpy(), 50, 10**6, 40_000))
    assert sizes.sum() == 50
    assert sizes[0] == 7
    assert sizes[-1] == 1
    drawn = draw_pairs(Activity(by_neuron, torch.ones(1, 10**6)), NOTHING, 40_000, seeded())
    assert len(drawn) > 39_900  # a few twice
    found = torch.bincount(drawn // 10**6, minlength=50)
    assert stats.chisquare(found.numpy(), (len(drawn) * by_neuron / by_neuron.sum()).numpy()).pvalue > 1e-3


def test_positions_beyond_32_bits():
    narrow = draw_pairs(activity([1.0] * 2**10, [1.0] * 2**20), NOTHING, 10_000, seeded())  # 2³⁰ positions
    wide = draw_pairs(Activity(torch.ones(2**20), torch.ones(1, 2**20)), NOTHING, 10_000, seeded())
    assert narrow.max() < 2**30 < 2**39 < wide.max() < 2**40
    assert stats.kstest(wide.numpy() / 2**40, "uniform").pvalue > 1e-3


weights = st.lists(st.floats(0, 1e6) | st.just(0.0) | st.just(1.0), min_size=1, max_size=40).filter(any)
around_one = st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]), max_size=8).flatmap(
    lambda numbers: st.permutations([part for x in numbers for part in (x, 2 - x)] + [1.0])
)


@given(weights | around_one)
@example([1.5, 0.5, 1.0, 0.1, 1.9])  # one index has the mean, where another has given all that it had
@example([2.3e-308, 0.0, 0.0])
def test_cells_of_the_alias_table_add_up_to_the_weights(numbers):
    array = np.array(numbers)
    share, owners = pairs._make_alias_table(array)
    assert (share >= 0).all()
    assert (share <= 1).all()
    total = share.copy()
    np.add.at(total, owners[:, 0], 1 - share)
    assert owners[:, 1].tolist() == list(range(len(array)))
    np.testing.assert_allclose(total / len(array), array / array.sum(), atol=1e-12)
    assert (total[array == 0] == 0).all()  # an index without weight is never drawn


@settings(deadline=None)  # the first call compiles
@given(
    found=st.builds(activity, weights, weights) | st.just(PAIRS["two groups"]),
    count=st.integers(0, 300),
    most_neurons=st.integers(1, 50),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_compiled_draws_are_the_same(found, count, most_neurons, seed, data):
    n = len(found.by_neuron) * found.by_input.shape[1]
    taken, drawn = torch.tensor(sorted(data.draw(st.sets(st.integers(0, n - 1)))), dtype=torch.int64), []
    for compiles in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pairs, "_MOST_NEURONS", most_neurons)
            patch.setattr(pairs, "is_worth_compiling", lambda _, compiles=compiles: compiles)
            drawn.append(draw_pairs(found, taken, count, seeded(seed)).tolist())
    assert drawn[0] == drawn[1]
