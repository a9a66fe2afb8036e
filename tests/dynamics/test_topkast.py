"""Top-KAST against its definition: which weights compute, which train, which stay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psn_lightning import sparse_layers, sparsify
from psn_lightning.dynamics import TopKASTLayer
from psn_lightning.errors import SettingError


def make(module=None, sparsity=0.9, backward_sparsity=0.75, penalty=0.0):
    torch.manual_seed(3)
    module = nn.Sequential(module or nn.Linear(40, 30)).double()
    sparsify(module, 0.0, allocation="uniform")
    (layer,) = sparse_layers(module).values()
    return module, TopKASTLayer(layer, sparsity, backward_sparsity, penalty)


def largest(values, count):
    """Mask of the ``count`` largest of a list; of equal ones the first."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    return [i in order for i in range(len(values))]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=12, max_size=12), st.integers(1, 12), st.integers(0, 11))
def test_exactly_the_largest_and_ties_to_the_lower_position(values, n_forward, more):
    n_backward = min(12, n_forward + more)
    module, latent = make(nn.Linear(4, 3), 1 - n_forward / 12, 1 - n_backward / 12)
    latent.latent.copy_(torch.tensor(values, dtype=torch.float64).view(3, 4))
    latent.refresh()
    magnitudes = [abs(v) for v in values]
    assert latent.layer.mask.flatten().tolist() == largest(magnitudes, n_forward)
    assert latent.backward.flatten().tolist() == largest(magnitudes, n_backward)
    expected = [v if active else 0 for v, active in zip(values, largest(magnitudes, n_forward), strict=True)]
    assert module[0].weight.flatten().tolist() == expected


KINDS = {
    "linear": (lambda: nn.Linear(40, 30), (8, 40)),
    "convolution": (lambda: nn.Conv2d(4, 12, 3, groups=2), (2, 4, 7, 7)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_depends_on_a_only(kind):
    kind, shape = KINDS[kind]
    module, latent = make(kind())
    latent.refresh()
    x = torch.randn(shape, dtype=torch.float64)
    before, active = module(x), latent.layer.mask.view(latent.latent.shape)
    smallest = latent.latent[active].abs().min()
    latent.latent[~active] = torch.empty_like(latent.latent[~active]).uniform_(-1, 1) * smallest
    latent.refresh()
    assert torch.equal(module(x), before)
    latent.latent[active] *= 2
    latent.refresh()
    assert not torch.allclose(module(x), before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ],
)
def test_b_trains_and_the_rest_does_not_move(kind, optimizer):
    """Against a loop that multiplies by masks: θ ← step(θ) within B, with the gradient at θ ⊙ A."""
    kind, shape = KINDS[kind]
    module, latent = make(kind())
    optimizer = optimizer(module.parameters())
    latent.refresh()
    weight = module[0].weight
    for step in range(6):
        theta = latent.latent.clone()
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        module.zero_grad()
        module(x).square().mean().backward()
        copy = kind().double()
        with torch.no_grad():
            copy.weight.copy_(torch.where(latent.layer.mask.view(theta.shape), theta, 0))
            copy.bias.copy_(module[0].bias)
        copy(x).square().mean().backward()
        latent.before_step()
        assert torch.equal(weight.grad, torch.where(latent.backward, copy.weight.grad, 0))
        assert torch.equal(weight, theta)
        optimizer.step()
        stepped = weight.detach().clone()
        latent.after_step()
        assert torch.equal(latent.latent, torch.where(latent.backward, stepped, theta))
        assert (latent.latent != theta).sum() == latent.n_backward
        assert torch.equal(weight, torch.where(latent.layer.mask.view(theta.shape), stepped, 0))
        if step == 3:
            old, moments = latent.backward, [s for s in optimizer.state[weight].values() if torch.is_tensor(s)]
            moments = [m for m in moments if m.shape == weight.shape]
            latent.latent[~old] *= 3
            latent.refresh(moments)
            assert (latent.backward & ~old).any()
            assert all(m[old & latent.backward].all() and not m[~(old & latent.backward)].any() for m in moments)


def test_the_penalty_by_hand_and_its_gradient():
    module, latent = make(nn.Linear(4, 2), sparsity=0.75, backward_sparsity=0.5, penalty=0.1)
    latent.latent.copy_(torch.tensor([[3.0, -1.0, 0.5, 0.1], [4.0, 2.0, 0.2, 0.3]]))
    latent.refresh()
    assert latent.compute_penalty().item() == pytest.approx(0.1 * (5 + 4 * 5**0.5))
    module(torch.zeros(1, 4, dtype=torch.float64)).sum().backward()
    latent.before_step()
    waiting = 0.1 * 4 / 5**0.5
    expected = [[0.06, -waiting, 0, 0], [0.08, 2 * waiting, 0, 0]]
    torch.testing.assert_close(module[0].weight.grad, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("weights", ["zeros", "no others"])
def test_a_norm_of_nothing_has_no_gradient(weights):
    module, latent = make(penalty=1e30, backward_sparsity=0.9 if weights == "no others" else 0.75)
    if weights == "zeros":
        latent.latent.zero_()
    latent.refresh()
    module(torch.zeros(1, 40, dtype=torch.float64)).sum().backward()
    latent.before_step()
    assert module[0].weight.grad.isfinite().all()
    assert module[0].weight.grad.any() == (weights != "zeros")


def test_after_the_exploration_b_is_a_and_in_the_end_the_layer_is_an_ordinary_one():
    module, latent = make()
    latent.refresh()
    latent.stop_exploring()
    latent.refresh()
    assert torch.equal(latent.backward.flatten(1), latent.layer.mask)
    latent.release()
    module(torch.randn(5, 40, dtype=torch.float64)).sum().backward()
    assert torch.equal(module[0].weight.grad != 0, latent.layer.mask)


def test_a_layer_without_a_connection_is_refused():
    with pytest.raises(SettingError, match=r"leaves none of 12 connections"):
        make(nn.Linear(4, 3), sparsity=0.99, backward_sparsity=0.9)
