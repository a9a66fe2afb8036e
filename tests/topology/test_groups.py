"""Groups of a connectivity: part of it in files, digests and comparisons; shared inputs, or refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.topology import Connectivity
from psn_lightning.topology.groups import number_groups
from psn_lightning.topology.statistics import summarize_groups


@st.composite
def grouped(draw):
    """A connectivity with groups in any order, and its grid."""
    n_groups, size, n_in = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    grid = Connectivity.from_mask(rng.random((n_groups, n_in)) < rng.random((n_groups, 1)))
    return Connectivity.from_grid(grid, rng.permutation(np.repeat(np.arange(n_groups), size)))


@given(grouped())
def test_a_grid_and_the_groups_are_the_connectivity(made):
    assert Connectivity.from_grid(made.grid(), made.groups) == made
    assert made.n_groups * made.group_size == made.n_out
    assert np.array_equal(made.mask(), made.grid().mask()[made.groups])
    first = [np.flatnonzero(made.groups == group)[0] for group in range(made.n_groups)]
    assert first == sorted(first)


@given(grouped(), st.integers(0, 99))
def test_whether_inputs_are_shared_is_seen(made, seed):
    groups = np.random.default_rng(seed).permutation(made.groups)
    mask = made.mask()
    shared = all((mask[groups == group] == mask[groups == group][0]).all() for group in range(made.n_groups))
    if shared:
        assert np.array_equal(made.with_groups(groups).mask(), mask)
    else:
        with pytest.raises(ValueError, match="different inputs"):
            made.with_groups(groups)


def test_files_digests_and_comparisons_know_the_groups(tmp_path):
    plain = Connectivity.full(3, 4)
    pairs, halves = plain.with_groups([0, 0, 1, 1]), plain.with_groups([5, 2, 5, 2])
    assert len({c.digest() for c in (plain, pairs, halves)}) == 3
    assert plain != pairs != halves != plain
    assert halves == plain.with_groups([0, 1, 0, 1])
    for made in (plain, halves):
        made.save(tmp_path / "layer.npz")
        assert Connectivity.load(tmp_path / "layer.npz") == made
    assert plain.n_groups == 4
    assert plain.grid() is plain


@pytest.mark.parametrize("groups", [[0, 0, 1], [0, 0, 0, 1], [[0, 0], [1, 1]]])
def test_groups_that_do_not_divide_the_neurons_are_refused(groups):
    with pytest.raises(ValueError, match="groups"):
        number_groups(np.array(groups), 4)


def test_statistics_say_what_sharing_does():
    grid = Connectivity.from_mask([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0]])
    found = summarize_groups(Connectivity.from_grid(grid, np.repeat([0, 1, 2], 4)))
    assert (found.groups, found.size, found.distinct_inputs) == (3, 4, 4)
    # Of six ordered pairs two share one of two inputs.
    assert found.overlap == pytest.approx(2 * 0.5 / 6)
    assert summarize_groups(grid) is None
