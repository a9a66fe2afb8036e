"""Blocks of neurons."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.dynamics import blocks as blocks_module
from psn_lightning.dynamics.blocks import blocks_of_neurons


@given(n_out=st.integers(1, 12), n_in=st.integers(1, 12), block=st.integers(1, 60), data=st.data())
def test_blocks_hold_every_position_once(n_out, n_in, block, data):
    positions = sorted(data.draw(st.sets(st.integers(0, n_out * n_in - 1))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "_BLOCK", block)
        blocks = list(blocks_of_neurons(torch.tensor(positions, dtype=torch.int64), n_out, n_in))
    assert [neuron for b, _ in blocks for neuron in range(b.start, b.stop)] == list(range(n_out))
    assert all((b.stop - b.start) * n_in <= max(block, n_in) for b, _ in blocks)
    assert [b.start * n_in + int(p) for b, own in blocks for p in own] == positions
    assert all(0 <= int(p) < (b.stop - b.start) * n_in for b, own in blocks for p in own)
