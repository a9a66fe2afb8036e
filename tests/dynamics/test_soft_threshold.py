"""STR against its definition, and its gradients against finite differences."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from psn_lightning import sparse_layers, sparsify
from psn_lightning.dynamics import SoftThresholdLayer

KINDS = {
    "linear": (lambda: nn.Linear(12, 7), (8, 12), F.linear),
    "convolution": (lambda: nn.Conv2d(3, 6, 3, bias=True), (2, 3, 7, 7), F.conv2d),
}


def make(kind, initial=-2.0, weight_decay=0.0):
    torch.manual_seed(3)
    module = nn.Sequential(kind()).double()
    sparsify(module, 0.0, allocation="uniform")
    (layer,) = sparse_layers(module).values()
    latent = SoftThresholdLayer(layer, initial, weight_decay)
    latent.refresh()
    return module, latent


@pytest.mark.parametrize("initial", [-3200.0, -4.0, -2.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_zeros_are_the_weights_up_to_the_threshold(kind, initial):
    module, latent = make(KINDS[kind][0], initial)
    expected = latent.latent.sign() * torch.relu(latent.latent.abs() - torch.tensor(initial).double().sigmoid())
    assert torch.equal(module[0].weight, expected)
    below = latent.latent.abs() <= latent.threshold
    assert torch.equal(latent.layer.mask.view(below.shape), ~below)
    assert latent.layer.n_connections == int((module[0].weight != 0).sum()) == below.numel() - int(below.sum())
    assert {-3200.0: latent.layer.n_connections == below.numel(), 3.0: latent.layer.n_connections == 0}.get(
        initial, True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind):
    make_module, shape, function = KINDS[kind]
    decay = 0.3
    module, latent = make(make_module, weight_decay=decay)
    x = torch.randn(shape, dtype=torch.float64)
    theta, s, bias = latent.latent.clone(), latent.s.detach().clone(), module[0].bias.detach()

    def loss(theta, s):
        weight = theta.sign() * torch.relu(theta.abs() - torch.sigmoid(s))
        return function(x, weight, bias).square().mean() + decay / 2 * (theta.square().sum() + s.square())

    module(x).square().mean().backward()
    latent.before_step()
    h = 1e-6
    assert latent.s.grad.item() == pytest.approx(((loss(theta, s + h) - loss(theta, s - h)) / (2 * h)).item(), rel=1e-6)
    slopes = torch.zeros_like(theta)
    for i in range(theta.numel()):
        up, down = theta.clone(), theta.clone()
        up.view(-1)[i] += h
        down.view(-1)[i] -= h
        slopes.view(-1)[i] = (loss(up, s) - loss(down, s)) / (2 * h)
    torch.testing.assert_close(module[0].weight.grad, slopes, rtol=1e-6, atol=1e-8)
    assert 0 < latent.layer.n_connections < theta.numel()


def test_steps_are_those_of_autograd_through_the_formula():
    make_module, shape, function = KINDS["linear"]
    module, latent = make(make_module, initial=-3.0)
    theta, s = nn.Parameter(latent.latent.clone()), nn.Parameter(latent.s.detach().clone())
    bias = nn.Parameter(module[0].bias.detach().clone())
    ours = torch.optim.Adam([*module.parameters(), latent.own_parameter], lr=0.02)
    theirs = torch.optim.Adam([theta, bias, s], lr=0.02)
    counts = set()
    for step in range(40):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        ours.zero_grad()
        (module(x) - x[:, :7]).square().mean().backward()
        latent.before_step()
        ours.step()
        latent.after_step()
        theirs.zero_grad()
        weight = theta.sign() * torch.relu(theta.abs() - torch.sigmoid(s))
        (function(x, weight, bias) - x[:, :7]).square().mean().backward()
        theirs.step()
        counts.add(latent.layer.n_connections)
    torch.testing.assert_close(latent.latent, theta.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(latent.s.detach(), s.detach(), rtol=1e-9, atol=1e-12)
    assert len(counts) > 3


def test_s_moves_also_in_half_precision():
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(12, 7)).bfloat16()
    sparsify(module, 0.0, allocation="uniform")
    latent = SoftThresholdLayer(sparse_layers(module)["0"], -8.0, 0.1)
    latent.refresh()
    optimizer = torch.optim.SGD([*module.parameters(), latent.own_parameter], lr=1e-3)
    module(torch.randn(4, 12, dtype=torch.bfloat16)).sum().backward()
    latent.before_step()
    optimizer.step()
    latent.after_step()
    assert -8 < latent.s.item() < -7.99
