"""Order of the connections in blocks against a sort by several keys."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.kernels import structure
from psn_lightning.kernels.structure import Structure

shapes = st.tuples(st.integers(0, 40), st.integers(1, 50), st.sampled_from([0.0, 0.02, 0.3, 1.0]), st.integers(0, 9))


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_SIDES", (4, 16))
        patch.setattr(structure, "_SHORTEST_RUN", 0.01)
        yield


def draw(shape):
    n_out, n_in, density, seed = shape
    return np.random.default_rng(seed).random((n_out, n_in)) < density


def block_of(items, edges):
    """Number of the block of each item."""
    return np.searchsorted(edges, items, side="right") - 1


@settings(deadline=None)  # the first call compiles
@given(shapes, st.one_of(st.none(), st.tuples(st.integers(1, 5), st.integers(1, 5))))
def test_connections_are_sorted_by_block_of_neurons_block_of_inputs_neuron_and_input(shape, blocks):
    mask = draw(shape)
    found = Structure(np.flatnonzero(mask), *mask.shape, blocks)
    neurons, inputs = np.nonzero(mask)
    of_neurons, of_inputs = block_of(neurons, found.edges[0]), block_of(inputs, found.edges[1])
    expected = np.lexsort((inputs, neurons, of_inputs, of_neurons))
    numbers = torch.arange(len(inputs))
    assert np.array_equal(found.from_rows(numbers), expected)
    for kind in (torch.int16, torch.float32, torch.int64):
        assert torch.equal(found.to_rows(found.from_rows(numbers.to(kind))), numbers.to(kind))
    assert np.array_equal(found.ordered_positions, found.positions[expected])
    assert np.array_equal(found.indices, (inputs - found.edges[1][of_inputs])[expected])
    if found.blocks[1] == 1:
        assert np.array_equal(expected, numbers)


@settings(deadline=None)
@given(shapes)
def test_runs_begin_where_neuron_or_block_of_inputs_changes(shape):
    mask = draw(shape)
    found = Structure(np.flatnonzero(mask), *mask.shape)
    lengths = [
        mask[j, low:high].sum()
        for first, end in zip(found.edges[0], found.edges[0][1:], strict=False)
        for low, high in zip(found.edges[1], found.edges[1][1:], strict=False)
        for j in range(first, end)
    ]
    assert np.array_equal(found.starts, np.concatenate([[0], np.cumsum(lengths, dtype=int)]))


@settings(deadline=None)
@given(shapes)
def test_columns_are_sorted_by_block_of_inputs_block_of_neurons_input_and_neuron(shape):
    mask = draw(shape)
    found = Structure(np.flatnonzero(mask), *mask.shape)
    starts, local, places = found.columns
    neurons, inputs = np.nonzero(mask)
    of_neurons, of_inputs = block_of(neurons, found.edges[0]), block_of(inputs, found.edges[1])
    order = np.lexsort((neurons, inputs, of_neurons, of_inputs))
    assert np.array_equal(local, (neurons - found.edges[0][of_neurons])[order])
    lengths = [
        mask[first:end, i].sum()
        for low, high in zip(found.edges[1], found.edges[1][1:], strict=False)
        for first, end in zip(found.edges[0], found.edges[0][1:], strict=False)
        for i in range(low, high)
    ]
    assert np.array_equal(starts, np.concatenate([[0], np.cumsum(lengths, dtype=int)]))
    place = np.argsort(np.lexsort((inputs, neurons, of_inputs, of_neurons)))  # of each connection among the values
    block = of_neurons * len(found.edges[1]) + of_inputs
    first = {b: place[block == b].min() for b in set(block.tolist())}
    assert places.tolist() == [place[k] - first[block[k]] for k in order.tolist()]
