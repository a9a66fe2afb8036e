"""Index arrays of a connectivity, against the mask."""

import ctypes
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.kernels.structure import BlockedRows, Structure

masks = st.tuples(st.integers(1, 9), st.integers(1, 700), st.sampled_from([0.0, 0.005, 0.1, 0.9, 1.0])).map(
    lambda shape: np.random.default_rng(0).random(shape[:2]) < shape[2]
)


@given(masks)
def test_blocks_hold_every_connection_of_a_row_once_and_in_order(mask):
    n_rows, n_columns = mask.shape
    positions = np.flatnonzero(mask)
    rows = BlockedRows(positions, n_rows, n_columns)
    for j in range(n_rows):
        runs = [rows.indices[a:b] for a, b in zip(rows.blocks[:-1, j], rows.blocks[1:, j], strict=True)]
        assert np.array_equal(np.concatenate(runs), np.flatnonzero(mask[j]))
    edges = np.linspace(0, n_columns, len(rows.blocks)).astype(int)
    for block, (low, high) in enumerate(pairwise(edges)):
        for j in range(n_rows):
            run = rows.indices[rows.blocks[block, j] : rows.blocks[block + 1, j]]
            assert ((low <= run) & (run < high)).all()


@given(masks)
def test_fan_in_and_neurons_are_those_of_the_mask(mask):
    structure = Structure(np.flatnonzero(mask), *mask.shape)
    assert np.array_equal(structure.fan_in, mask.sum(axis=1))
    assert np.array_equal(structure.neurons, np.nonzero(mask)[0])


@pytest.mark.parametrize("density", [0.01, 0.5])
def test_the_columns_are_the_same_connections_by_input(density):
    mask = np.random.default_rng(1).random((40, 300)) < density
    structure = Structure(np.flatnonzero(mask), *mask.shape)
    fields = structure.describe_columns()
    n = fields["column_blocks"]
    order = np.array((ctypes.c_int32 * int(mask.sum())).from_address(fields["column_order"]))
    indices = np.array((ctypes.c_int32 * int(mask.sum())).from_address(fields["column_indices"]))
    outputs, inputs = np.nonzero(mask)
    assert np.array_equal(inputs[order], np.nonzero(mask.T)[0])
    assert np.array_equal(outputs[order], indices)
    starts = np.array((ctypes.c_int64 * ((n + 1) * 300)).from_address(fields["column_starts"])).reshape(n + 1, 300)
    assert np.array_equal(starts[-1] - starts[0], mask.sum(axis=0))
