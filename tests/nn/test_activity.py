"""Sums of inputs and gradients over the rows of a batch, against matrices of them."""

import pytest
import torch
from torch import nn

from psn_lightning.nn import SparseMLP, sparse_layers, sparsify
from psn_lightning.topology import Topology, Uniform
from tests.helpers.layers import STORAGES, random_linear


def watch(module):
    """Inputs and gradients to the output of a module, by passes; the gradients follow in the backward pass."""
    seen = []

    def hook(_, inputs, output):
        entry = [inputs[0].detach()]
        seen.append(entry)
        output.register_hook(entry.append)

    module.register_forward_hook(hook)
    return seen


def rows_of(seen):
    """Inputs and gradients of a Linear as matrices ``(rows, n)``."""
    return [torch.cat([entry[i].flatten(0, -2) for entry in seen]) for i in (0, 1)]


def recorded(linear, rows=(5, 3)):
    linear.view.record_dense_gradient = True
    linear.view.record_activity(True)
    seen = watch(linear.module)
    for n in rows:
        linear(torch.randn(n, 13)).square().mean().backward()
    return rows_of(seen)


@pytest.mark.parametrize("storage", STORAGES)
def test_magnitudes_are_summed_over_all_rows(storage):
    linear = random_linear(storage=storage)
    h, delta = recorded(linear)
    by_neuron, by_input = linear.view.activity()
    torch.testing.assert_close(by_neuron, delta.abs().sum(dim=0))
    torch.testing.assert_close(by_input, h.abs().sum(dim=0)[None])


@pytest.mark.parametrize("storage", STORAGES)
def test_random_signs_estimate_the_gradient(storage):
    """The mean square of a signed sum is the sum of squares, and a single row has no error."""
    linear = random_linear(storage=storage)
    h, delta = recorded(linear)
    generator = torch.Generator().manual_seed(0)
    draws = [linear.view.activity(generator) for _ in range(2000)]
    for i, rows in enumerate((delta, h)):
        square = torch.stack([draw[i].flatten() for draw in draws]).square().mean(dim=0)
        torch.testing.assert_close(square, rows.square().sum(dim=0), rtol=0.2, atol=0)
    single = random_linear(storage=storage)
    recorded(single, rows=[1])
    by_neuron, by_input = single.view.activity(generator)
    torch.testing.assert_close(by_neuron[:, None] * by_input, single.view.dense_gradient().abs())


@pytest.mark.parametrize("storage", STORAGES)
def test_what_was_recorded_is_forgotten(storage):
    linear = random_linear(storage=storage)
    recorded(linear)
    linear.view.record_dense_gradient = False
    linear.view.record_activity(False)
    with pytest.raises(RuntimeError, match="before the backward pass"):
        linear.view.activity()
    linear(torch.randn(2, 13)).sum().backward()
    with pytest.raises(RuntimeError, match="before the backward pass"):
        linear.view.activity()


@pytest.mark.parametrize("rows", [3, 64, 70])
def test_hidden_layers_of_a_fused_network_have_the_rows_of_the_batch_and_no_others(rows):
    """Its tiles have more columns, whose activations LayerNorm's shift makes positive."""
    found = []
    for storage in STORAGES:
        network = SparseMLP([9, 8, 7, 2], Topology(Uniform(), 0.5), storage=storage, seed=1)
        layers = network.sparse_layers().values()
        for layer in layers:
            layer.record_dense_gradient = True
            layer.record_activity(True)
        for norm in (module for module in network.modules() if isinstance(module, nn.LayerNorm)):
            nn.init.ones_(norm.bias)
        network(torch.arange(9.0 * rows).view(rows, 9).sin()).square().mean().backward()
        found.append([layer.activity(generator) for layer in layers for generator in (None, torch.Generator())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


CONVOLUTIONS = {
    "plain": (nn.Conv2d(4, 6, 3), (3, 4, 7, 6)),
    "groups": (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2), (3, 4, 8, 7)),
    "same": (nn.Conv2d(3, 5, 4, padding="same", dilation=2), (2, 3, 9, 9)),
    "circular": (nn.Conv1d(3, 4, 3, padding=2, padding_mode="circular"), (2, 3, 9)),
    "without a batch": (nn.Conv1d(2, 4, 3, stride=2), (2, 9)),
    "volume": (nn.Conv3d(2, 4, 2, stride=(1, 2, 1)), (2, 2, 4, 5, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_has_a_row_for_every_place_of_its_kernel(name):
    """Its rows are read off the convolution itself, with kernels that have a single 1."""
    module, shape = CONVOLUTIONS[name]
    model = nn.Sequential(module)
    sparsify(model, 0.3)
    (layer,) = sparse_layers(model).values()
    layer.record_activity(True)
    seen, x = watch(module), torch.randn(shape)
    model(x).square().sum().backward()
    units = torch.eye(layer.n_in).view(layer.n_in, *module.weight.shape[1:])
    expected = []
    for group in x.chunk(module.groups, dim=-len(module.kernel_size) - 1):
        probe = type(module)(
            group.shape[-len(module.kernel_size) - 1], layer.n_in, module.kernel_size, module.stride,
            module.padding, module.dilation, 1, False, module.padding_mode,
        )  # fmt: skip
        probe.weight = nn.Parameter(units)
        places = probe(group).movedim(-len(module.kernel_size) - 1, 0).flatten(1)
        expected.append(places.abs().sum(dim=1))
    by_neuron, by_input = layer.activity()
    torch.testing.assert_close(by_input, torch.stack(expected))
    delta = seen[0][1].movedim(-len(module.kernel_size) - 1, 0).flatten(1)
    torch.testing.assert_close(by_neuron, delta.abs().sum(dim=1))
    signed = [layer.activity(torch.Generator().manual_seed(i)).by_neuron for i in range(1000)]
    square = torch.stack(signed).square().mean(dim=0)
    torch.testing.assert_close(square, delta.square().sum(dim=1), rtol=0.3, atol=0)


def test_attention_does_not_show_its_inputs():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    sparsify(model, 0.5)
    shown = {name for name, layer in sparse_layers(model).items() if layer.shows_activity}
    assert shown == {"linear1", "linear2"}
