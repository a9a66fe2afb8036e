"""What a structure says of its connectivity, and the sizes of its blocks."""

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.kernels.structure import Structure

masks = st.tuples(st.integers(1, 9), st.integers(1, 700), st.sampled_from([0.0, 0.005, 0.1, 0.9, 1.0])).map(
    lambda shape: np.random.default_rng(0).random(shape[:2]) < shape[2]
)


@given(masks)
def test_the_row_pointer_is_that_of_the_mask(mask):
    structure = Structure(np.flatnonzero(mask), *mask.shape)
    assert np.array_equal(np.diff(structure.indptr), mask.sum(axis=1))


def test_blocks_of_a_dense_layer_and_of_a_very_sparse_one():
    dense = Structure(np.arange(600 * 520), 600, 520)
    assert [len(edges) - 1 for edges in dense.edges] == [2, 2]
    sparse = Structure(np.arange(3000, dtype=np.int64) * 3000, 3000, 3000)
    assert [len(edges) - 1 for edges in sparse.edges] == [1, 1]  # the mean run would be below one connection


def test_indices_are_as_small_as_the_largest_block_allows():
    concentrated = np.flatnonzero(np.pad(np.ones((300, 300), bool), ((0, 2200), (0, 2200))))
    assert Structure(concentrated, 2500, 2500).index_bytes == 4
    spread = np.sort(np.random.default_rng(0).choice(2500 * 2500, len(concentrated), replace=False))
    assert Structure(spread, 2500, 2500).index_bytes == 2


@pytest.mark.parametrize("index_bytes", [2, 4])
def test_indices_are_widened_for_the_kernels_of_a_stack_that_needs_it(index_bytes):
    structure = Structure(np.flatnonzero(np.random.default_rng(1).random((40, 300)) < 0.2), 40, 300)
    kind = {2: ctypes.c_uint16, 4: ctypes.c_int32}[index_bytes]
    fields = structure.describe_rows(index_bytes) | structure.describe_columns(index_bytes)
    assert (fields["out_blocks"], fields["in_blocks"]) == tuple(len(edges) - 1 for edges in structure.edges)
    expected = {"row_indices": structure.indices, "column_indices": structure.columns[1]}
    for name, array in (expected | {"column_order": structure.columns[2]}).items():
        assert np.array_equal(np.array((kind * len(array)).from_address(fields[name])), array)
