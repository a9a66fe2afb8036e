"""Gradients at given positions."""

import copy

import pytest
import torch

from psn_lightning.nn import LayerSettings, sparse_layers, sparsify
from psn_lightning.topology import Connectivity
from tests.helpers.layers import STORAGES, random_linear, sparse_linear


@pytest.mark.parametrize("storage", STORAGES)
def test_the_gradient_at_positions_is_part_of_the_dense_one(storage):
    linear = random_linear(storage=storage)
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        linear.view.gradient_at(torch.arange(3))
    linear.view.record_dense_gradient = True
    for rows in (5, 40):  # accumulated
        linear(torch.randn(rows, 13)).square().sum().backward()
    for positions in (torch.arange(0, 143, 7), torch.arange(143), torch.arange(0)):
        expected = linear.view.dense_gradient().flatten()[positions]
        torch.testing.assert_close(linear.view.gradient_at(positions), expected)


class Mixed(torch.nn.Module):
    """A grouped convolution, attention, and a Linear."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.attention = torch.nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = torch.nn.Linear(6, 5)

    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens)[0])


@pytest.mark.parametrize("storage", ["masked", "auto"])
def test_the_gradient_at_positions_of_any_weight(storage):
    """Against autograd of the dense module with the same zeros."""
    torch.manual_seed(0)
    model, dense = Mixed(), Mixed()
    dense.load_state_dict(model.state_dict())
    sparsify(model, 0.7, storage=storage, overrides={"head": LayerSettings(storage="csr")})
    layers = sparse_layers(model)
    assert {layer.storage for layer in layers.values()} == {"masked", "csr"}
    owners = dict(dense.named_parameters())
    with torch.no_grad():
        for name, layer in layers.items():
            owner = owners.get(f"{name}.weight", owners.get(name))
            owner.view(layer.n_out, layer.n_in).masked_fill_(~layer.mask, 0)
            layer.record_dense_gradient = True
    for module in (model, dense):
        module(torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    for name, layer in layers.items():
        positions = torch.arange(0, layer.n_out * layer.n_in, 5)
        expected = owners.get(f"{name}.weight", owners.get(name)).grad.flatten()[positions]
        torch.testing.assert_close(layer.gradient_at(positions), expected)


def test_positions_beyond_32_bits():
    """A csr layer of 2³³ positions, with four connections."""
    n_in, n_out = 2**16, 2**17
    indptr = torch.zeros(n_out + 1, dtype=torch.int64)
    indptr[1:], indptr[-1:] = 2, 4
    layer = sparse_linear(Connectivity(n_in, n_out, indptr.numpy(), [0, 5, 7, n_in - 1]), "csr").view
    x = torch.randn(3, n_in)
    layer.record_dense_gradient = True
    y = layer(x)
    y.backward(torch.ones_like(y) * torch.arange(n_out))
    positions = torch.tensor([5, 2**31 - 1, 2**31, 2**32 + 3, n_out * n_in - 1])
    expected = 1.0 * (positions // n_in) * x.sum(dim=0)[positions % n_in]
    torch.testing.assert_close(layer.gradient_at(positions), expected)
    assert layer.set_active(positions) == 2
    assert torch.equal(layer.active_positions(), positions)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_copy_does_not_record(storage):
    linear = random_linear(storage=storage)
    linear.view.record_dense_gradient = True
    copied = copy.deepcopy(linear.module)
    (layer,) = sparse_layers(copied).values()
    copied(torch.randn(5, 13)).square().sum().backward()
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        layer.gradient_at(torch.arange(3))


@pytest.mark.parametrize("storage", STORAGES)
def test_unknown_entries_and_hooks_before_loading_are_those_of_torch(storage):
    module = random_linear(storage=storage).module
    state, seen = module.state_dict(), []
    module.register_load_state_dict_pre_hook(lambda *arguments: seen.append(arguments[2]))
    module.load_state_dict(state)
    assert seen == [""]
    with pytest.raises(RuntimeError, match=r"Unexpected key.*scale"):
        module.load_state_dict({**state, "scale": torch.ones(1)})
