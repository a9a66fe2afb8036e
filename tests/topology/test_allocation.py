import math
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import allocate, allocate_exactly

HIDDEN = [(512, 784), (512, 512)]
shapes = st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), min_size=1, max_size=6)


def test_erk_on_the_hidden_layers():
    assert allocate(HIDDEN, 0.9, "erk") == pytest.approx([0.0923, 0.1117], abs=5e-5)


def test_erk_with_the_output_in_the_budget():
    whole = allocate([*HIDDEN, (10, 512)], 0.9, "erk")
    assert whole == pytest.approx([0.0859, 0.1040, 1], abs=5e-5)
    assert allocate(HIDDEN, 0.9, "erk", dense=[(10, 512)]) == pytest.approx(whole[:2])


@pytest.mark.parametrize("allocation", ["uniform", "er", "erk"])
@given(shapes=shapes, sparsity=st.floats(0, 0.999))
def test_the_budget_is_spent_exactly(allocation, shapes, sparsity):
    densities = allocate(shapes, sparsity, allocation)
    assert all(0 < density <= 1 for density in densities)
    spent = sum(d * prod(s) for d, s in zip(densities, shapes, strict=True))
    assert spent == pytest.approx((1 - sparsity) * sum(map(prod, shapes)))


@given(shapes=shapes, sparsity=st.floats(0, 0.999))
def test_layers_below_full_share_one_epsilon(shapes, sparsity):
    densities = allocate(shapes, sparsity, "er")
    epsilons = [d * prod(s) / sum(s) for d, s in zip(densities, shapes, strict=True) if d < 1]
    full = [1 * prod(s) / sum(s) for d, s in zip(densities, shapes, strict=True) if d == 1]
    for epsilon in epsilons:
        assert epsilon == pytest.approx(epsilons[0])
        assert all(f <= epsilon * (1 + 1e-9) for f in full)  # only layers that had to became dense


def test_er_and_erk_differ_for_kernels_only():
    kernel = [(64, 3, 3, 3), (64, 64, 3, 3), (64, 64, 3, 3)]
    assert allocate(HIDDEN, 0.9, "er") == allocate(HIDDEN, 0.9, "erk")
    assert allocate(kernel, 0.9, "er") != allocate(kernel, 0.9, "erk")


def test_a_budget_that_the_output_alone_spends_is_refused():
    with pytest.raises(SettingError, match="5120"):
        allocate([(512, 8)], 0.9, "erk", dense=[(10, 512)])


def test_unknown_allocation():
    with pytest.raises(SettingError, match="'equal'"):
        allocate(HIDDEN, 0.9, "equal")


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])), min_size=1, max_size=6),
    st.floats(0, 0.99),
    st.sampled_from(["uniform", "er", "erk"]),
)
def test_whole_connections_meet_the_budget_exactly(shapes, sparsity, allocation):
    sizes = [math.prod(shape) for shape in shapes]
    counts = allocate_exactly(shapes, sparsity, allocation)
    densities = allocate(shapes, sparsity, allocation)
    assert sum(counts) == round((1 - sparsity) * sum(sizes))
    for count, size, density in zip(counts, sizes, densities, strict=True):
        assert 0 <= count <= size
        assert abs(count - density * size) <= 1
