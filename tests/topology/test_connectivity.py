import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from psn_lightning.topology import Connectivity

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@given(masks)
def test_mask_round_trip(mask):
    connectivity = Connectivity.from_mask(mask)
    assert np.array_equal(connectivity.mask(), mask)
    assert np.array_equal(connectivity.fan_in, mask.sum(axis=1))
    assert np.array_equal(connectivity.fan_out, mask.sum(axis=0))
    assert connectivity.n_connections == mask.sum()


@settings(deadline=None)  # a file is flushed to the disk
@given(mask=masks)
def test_save_load_identity(mask, tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "layer.npz"
    connectivity = Connectivity.from_mask(mask)
    connectivity.save(path)
    assert Connectivity.load(path) == connectivity
    assert Connectivity.load(path).digest() == connectivity.digest()


@given(masks, masks)
def test_digest_tells_connectivities_apart(a, b):
    same = a.shape == b.shape and np.array_equal(a, b)
    first, second = Connectivity.from_mask(a), Connectivity.from_mask(b)
    assert (first.digest() == second.digest()) == same == (first == second)


@pytest.mark.parametrize(
    ("indptr", "indices"),
    [
        ([0, 2], [0, 0]),  # duplicate
        ([0, 2], [1, 0]),  # not sorted
        ([0, 1, 1, 3], [2, 1, 1]),  # behind a neuron without inputs
        ([0, 1], [3]),  # out of range
        ([0, 1], [-1]),
        ([0, 2], [1]),  # indptr says more than there is
        ([1, 1], []),  # does not start at 0
        ([0, 2, 1, 2], [0, 1]),  # decreases
    ],
)
def test_refuses_what_is_no_csr(indptr, indices):
    with pytest.raises(ValueError, match=r"indptr|indices|inputs"):
        Connectivity(3, len(indptr) - 1, np.array(indptr), np.array(indices, dtype=np.int64))


def test_is_frozen_inside_too():
    indices = np.array([0, 1])
    connectivity = Connectivity(2, 1, np.array([0, 2]), indices)
    indices[0] = 1
    assert connectivity.indices[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        connectivity.indices[0] = 1


def test_full():
    assert Connectivity.full(3, 2).mask().all()


def test_more_pairs_than_numbers_are_refused():
    Connectivity(2**31, 1, [0, 1], [5])
    with pytest.raises(ValueError, match=r"\d+ neurons"):
        Connectivity(2**62, 2, [0, 1, 2], [5, 5])
