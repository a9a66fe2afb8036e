"""The dense output layer of a fused network as a sparse one."""

import weakref

import pytest
import torch

from psn_lightning.nn import SparseMLP, csr_network
from psn_lightning.topology import Topology, Uniform


def make(hidden, storage="csr"):
    return SparseMLP([6, hidden, 3], Topology(Uniform(), 0.5), storage=storage, seed=1)


@pytest.mark.parametrize("largest", [1, 7, 20, 60, 2**16])
def test_output_and_gradients_are_those_of_the_dense_layer(largest, monkeypatch):
    monkeypatch.setattr(csr_network, "_LARGEST_BLOCK", largest)
    x, found = torch.randn(5, 6), []
    for storage in ("csr", "masked"):
        network, inputs = make(40, storage), x.clone().requires_grad_()
        logits = network(inputs)
        logits.square().sum().backward()
        output = list(network.parameters())[-2]
        assert output.shape == (3, 40)
        found.append((logits.detach(), inputs.grad, output.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_more_inputs_than_two_bytes_count_need_no_larger_indices():
    """Otherwise the indices of all layers are converted to four bytes, and kept beside those of two."""
    for hidden in (40, 2**16 + 5):
        blocks = csr_network._choose_row_major_blocks(3, hidden)
        whole = csr_network.Structure(csr_network.np.arange(3 * hidden), 3, hidden, blocks)
        assert whole.index_bytes == 2
        assert (whole.ordered_positions == whole.positions).all()


def test_an_update_frees_the_old_index_arrays_at_once():
    """Until the next step the workspaces of a network still refer to the structures that they know."""
    network = make(40)
    network(torch.randn(5, 6)).sum().backward()
    (layer,) = network.sparse_layers().values()
    arrays = [weakref.ref(array) for array in (layer.structure.indices, layer.structure.columns[1])]
    assert all(array() is not None for array in arrays)
    layer.set_active(layer.active_positions()[1:])
    assert all(array() is None for array in arrays)
    network(torch.randn(5, 6)).sum().backward()


def test_no_backward_pass_after_an_update_reads_the_old_arrays():
    network = make(40)
    loss = network(torch.randn(5, 6)).sum()
    (layer,) = network.sparse_layers().values()
    layer.set_active(layer.active_positions()[1:])
    with pytest.raises(RuntimeError, match="connections"):
        loss.backward()
