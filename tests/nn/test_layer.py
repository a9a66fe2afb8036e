"""Blocks of neurons, and gradients at given positions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.nn import layer as layer_module
from psn_lightning.nn.layer import blocks_of_neurons
from tests.helpers.layers import STORAGES, random_linear


@given(n_out=st.integers(1, 12), n_in=st.integers(1, 12), block=st.integers(1, 60), data=st.data())
def test_blocks_hold_every_position_once(n_out, n_in, block, data):
    positions = sorted(data.draw(st.sets(st.integers(0, n_out * n_in - 1))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_module, "_BLOCK", block)
        blocks = list(blocks_of_neurons(torch.tensor(positions, dtype=torch.int64), n_out, n_in))
    assert [neuron for b, _ in blocks for neuron in range(b.start, b.stop)] == list(range(n_out))
    assert all((b.stop - b.start) * n_in <= max(block, n_in) for b, _ in blocks)
    assert [b.start * n_in + int(p) for b, own in blocks for p in own] == positions
    assert all(0 <= int(p) < (b.stop - b.start) * n_in for b, own in blocks for p in own)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_gradient_at_positions_is_part_of_the_dense_one(storage):
    linear = random_linear(storage=storage)
    linear.view.record_dense_gradient = True
    linear(torch.randn(5, 13)).square().sum().backward()
    positions = torch.arange(0, 143, 7)
    expected = linear.view.dense_gradient().flatten()[positions]
    torch.testing.assert_close(linear.view.gradient_at(positions), expected)
