"""SynFlow against its closed form, and its conservation laws."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from psn_lightning import sparse_layers, sparsify
from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.pruning import SNIP, Magnitude, RandomScores, SynFlow, Twin, prune
from tests.pruning.networks import batch, conv_net, images, mlp

GENERATOR = torch.Generator()


def closed_form(weights):
    """score[i, j] = b_l[i] |W[i, j]| f_l-1[j], from the flow f of ones forwards and b backwards."""
    forwards = [torch.ones(weights[0].shape[1], dtype=torch.float64)]
    for weight in weights:
        forwards.append(weight.abs() @ forwards[-1])
    backwards = [torch.ones(weights[-1].shape[0], dtype=torch.float64)]
    for weight in reversed(weights[1:]):
        backwards.append(weight.abs().T @ backwards[-1])
    flow = forwards[-1].sum()
    layers = zip(weights, forwards, reversed(backwards), strict=False)
    return [b[:, None] * weight.abs() * f / flow for weight, f, b in layers]


@given(st.lists(st.integers(1, 7), min_size=3, max_size=6), st.integers(0, 5), st.floats(0, 0.5))
def test_it_is_the_closed_form_of_a_chain(sizes, seed, sparsity):
    module = mlp(sizes, seed=seed)
    prune(module, RandomScores(), sparsity, scope="layer", seed=seed) if min(sizes) > 1 else sparsify(module, 0.0)
    twin = Twin(module)
    weights = [weight.detach().clone() for weight in twin.weights.values()]
    scores = SynFlow().scores(twin, [], GENERATOR)
    for found, expected in zip(scores.values(), closed_form(weights), strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-300)
        assert float(found.sum()) == pytest.approx(1)  # the flow through every layer
    for before, after in zip(list(scores.values()), list(scores.values())[1:], strict=False):
        assert torch.allclose(before.sum(dim=1), after.sum(dim=0))  # and through every unit


def test_of_a_convolution_and_attention_it_is_the_derivative_of_the_linearised_network():
    """Attention is (q kᵀ) v without biases, of tokens that are the convolution of ones."""
    module = conv_net()
    sparsify(module, 0.0, allocation="uniform")
    scores = SynFlow().scores(Twin(module), [images()], GENERATOR)
    weights = {name: p.detach().abs().requires_grad_() for name, p in module.named_parameters() if p.dim() > 1}
    tokens = weights["conv.weight"].flatten(1).sum(dim=1).expand(1, 4, 4)  # four places of four channels
    q, k, v = (tokens @ part.T for part in weights["attention.in_proj_weight"].chunk(3))
    heads = [q[..., i : i + 2] @ k[..., i : i + 2].transpose(1, 2) @ v[..., i : i + 2] for i in (0, 2)]
    mixed = torch.cat(heads, dim=-1) @ weights["attention.out_proj.weight"].T
    flow = ((tokens + mixed).mean(dim=1) @ weights["head.weight"].T).sum()
    gradients = torch.autograd.grad(flow.log(), list(weights.values()))
    expected = {n: (w * g).detach().flatten(1) for (n, w), g in zip(weights.items(), gradients, strict=True)}
    for name, score in scores.items():
        assert torch.allclose(score, expected.get(name, expected.get(f"{name}.weight"))), name


class Scale(nn.Module):
    """A norm of one's own, whose parameter multiplies the signal."""

    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.full((n,), 0.5))

    def forward(self, x):
        return x * self.weight


def test_parameters_that_multiply_the_signal_let_it_pass():
    module = nn.Sequential(nn.Linear(6, 5), Scale(5), nn.Linear(5, 3)).double()
    without = nn.Sequential(module[0], module[2])
    scores = []
    for network in (module, without):
        network = copy.deepcopy(network)
        sparsify(network, 0.0, allocation="uniform")
        scores.append(SynFlow().scores(Twin(network), [], GENERATOR)["0"])
    assert torch.allclose(*scores)


def test_a_signal_that_does_not_arrive_is_refused():
    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)).double()
    nn.init.zeros_(module[1].weight)
    sparsify(module, 0.0, allocation="uniform")
    with pytest.raises(SettingError, match="signal is 0"):
        SynFlow().scores(Twin(module), [], GENERATOR)


def test_the_data_do_not_matter():
    masks = []
    for batches in ([], [batch()], [batch(seed=5)]):
        module = mlp()
        prune(module, SynFlow(), 0.8, batches)
        masks.append([layer.mask for layer in sparse_layers(module).values()])
    assert all(all(map(torch.equal, masks[0], other)) for other in masks[1:])


def test_no_layer_collapses_where_the_others_collapse():
    """Maximal critical compression: two connections for each layer."""
    sizes = (40, 30, 20, 10)
    n = 40 * 30 + 30 * 20 + 20 * 10
    for saliency in (Magnitude(), SNIP()):
        module = mlp(sizes, norm=False)
        with torch.no_grad():
            module[0].weight *= 0.01
        with pytest.raises(UnreachableError, match=rf"{type(saliency).__name__} leaves nothing of 0"):
            prune(module, saliency, 1 - 6 / n, [batch(20, 40, 10)])
    module = mlp(sizes, norm=False)
    with torch.no_grad():
        module[0].weight *= 0.01
    prune(module, SynFlow(), 1 - 6 / n)
    assert [len(layer.active_positions()) > 0 for layer in sparse_layers(module).values()] == [True] * 3


def test_many_rounds_give_another_mask_than_one():
    masks = []
    for rounds in (1, 100):
        module = mlp((40, 30, 20, 10))
        prune(module, SynFlow(), 0.8, rounds=rounds)
        masks.append(sparse_layers(module)["0"].mask)
    assert not torch.equal(*masks)


def test_a_batch_is_asked_for_where_it_is_needed_and_its_labels_are_not_read():
    module = conv_net()
    with pytest.raises(SettingError, match="batches"):
        prune(module, SynFlow(), 0.5)
    x, y = images()
    masks = []
    for labels in (y, y.double(), None):
        module = conv_net()
        prune(module, SynFlow(), 0.5, [(x, labels)])
        masks.append([layer.mask for layer in sparse_layers(module).values()])
    assert all(all(map(torch.equal, masks[0], other)) for other in masks[1:])


def test_the_shape_is_that_of_the_first_layer_sparse_or_not():
    module = mlp((6, 5, 4, 3))
    prune(module, SynFlow(), 0.5, exclude=["0"])
    assert sparse_layers(module)
