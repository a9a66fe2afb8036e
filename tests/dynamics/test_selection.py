"""Selections against sorting Python lists."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import selection
from psn_lightning.dynamics.selection import RunningTop, order_by_magnitude, select_top, select_top_per_row

scores = st.lists(
    st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 0.5000001, 2.0, math.inf, math.nan]), min_size=1, max_size=40
)


def best(values, count):
    """Highest first, NaN last with -inf, ties by position."""
    key = [-math.inf if math.isnan(v) else v for v in values]
    return sorted(sorted(range(len(key)), key=lambda i: (-key[i], i))[:count])


@settings(deadline=None)  # the first call compiles
@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(values=scores | st.lists(st.floats(), min_size=1), share=st.floats(0, 1))
def test_top(compiles, dtype, values, share):
    numbers, count = torch.tensor(values, dtype=dtype), int(share * len(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "is_worth_compiling", lambda _: compiles)
        assert select_top(numbers, count).tolist() == best(numbers.tolist(), count)


def test_more_than_there_are(monkeypatch):
    monkeypatch.setattr(selection, "is_worth_compiling", lambda _: True)
    with pytest.raises(ValueError, match="3 of 2 scores"):
        select_top(torch.ones(2), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(values=scores)
def test_order_by_magnitude_is_a_stable_sort(dtype, values):
    numbers = torch.tensor(values, dtype=dtype)
    keys = [math.inf if math.isnan(v) else abs(v) for v in numbers.tolist()]
    last = [math.isnan(v) for v in values]
    expected = sorted(range(len(values)), key=lambda i: (last[i], keys[i]))
    assert order_by_magnitude(numbers).tolist() == expected


@given(scores, st.floats(0, 1), st.integers(1, 7), st.data())
def test_running_top_is_top_in_blocks(values, share, size, data):
    free = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    positions = [i for i, f in enumerate(free) if f]
    count = int(share * len(positions))
    running = RunningTop(count)
    for start in range(0, len(values), size):
        block, mask = values[start : start + size], free[start : start + size]
        running.add(torch.tensor(block), torch.tensor(mask), start)
    expected = [positions[i] for i in best([values[p] for p in positions], count)]
    assert running.positions().tolist() == expected


def test_running_top_says_when_too_few_came():
    running = RunningTop(3)
    running.add(torch.ones(2), torch.tensor([True, True]), 0)
    with pytest.raises(RuntimeError, match="3 connections: only 2"):
        running.positions()


@given(st.lists(scores, min_size=1, max_size=5), st.data())
def test_top_per_row(rows, data):
    width = min(len(row) for row in rows)
    rows = [row[:width] for row in rows]
    free = data.draw(
        st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=len(rows), max_size=len(rows))
    )
    counts = [data.draw(st.integers(0, sum(row))) for row in free]
    mask = select_top_per_row(torch.tensor(rows), torch.tensor(free), torch.tensor(counts))
    for values, candidates, count, chosen in zip(rows, free, counts, mask.tolist(), strict=True):
        positions = [i for i, f in enumerate(candidates) if f]
        expected = [positions[i] for i in best([values[p] for p in positions], count)]
        assert [i for i, c in enumerate(chosen) if c] == expected


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2**15, 2**17),
    share=st.floats(0, 1),
    levels=st.sampled_from([1, 2, 50, 10**7]),
    period=st.sampled_from([0, 16, 37]),
)
def test_top_of_many(n, share, levels, period):
    values = torch.randint(levels, (n,), generator=torch.Generator().manual_seed(n)).float()
    if period:  # what no sample sees
        values[5::period] = torch.nan
        values[3::period] += 10**8
    count = int(share * n)
    assert select_top(values, count).tolist() == sorted(_order_of(values)[:count])


def _order_of(values):
    """Highest first, NaN last, ties by position."""
    return torch.nan_to_num(values, nan=-torch.inf).sort(descending=True, stable=True).indices.tolist()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0001, 0.01, 0.2, 0.6]),
    free=st.sampled_from([0.02, 0.7, 1.0]),
    levels=st.sampled_from([2, 50, 10**7]),
    rare=st.booleans(),
)
def test_many_scores_are_looked_through_with_a_bound_that_changes_nothing(seed, share, free, levels, rare):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(levels, (2**18,), generator=generator).float()
    if rare:  # the best are where no sample looks, and some are no numbers at all
        values = torch.where(torch.arange(len(values)) % 16 == 3, values + levels, 0.0)
        values[5::7] = torch.nan
    candidates = torch.rand(len(values), generator=generator) < free
    count = int(share * int(candidates.sum()))
    running = RunningTop(count)
    for start in range(0, len(values), 2**17):
        running.add(values[start : start + 2**17], candidates[start : start + 2**17], start)
    where = candidates.nonzero().squeeze(1)
    assert torch.equal(running.positions(), where[select_top(values[where], count)])
