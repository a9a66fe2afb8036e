"""The masked layer against the obvious: a dense weight multiplied with its mask."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psn_lightning.nn import MaskedLayer, sparse_layers
from psn_lightning.topology import Connectivity
from tests.helpers.layers import drawn


def oracle(sparse, x):
    weight = sparse.weight.detach().clone().requires_grad_()
    return weight, F.linear(x, weight * sparse.view.mask, sparse.module.bias)


@settings(max_examples=30, deadline=None)
@given(n_in=st.integers(1, 20), n_out=st.integers(1, 20), density=st.floats(0, 1), batch=st.integers(1, 9))
def test_values_and_gradients(n_in, n_out, density, batch, layer):
    sparse = layer(n_in, n_out, density)
    x = torch.randn(batch, n_in, requires_grad=True)
    weight, expected = oracle(sparse, x)
    target = torch.randn(batch, n_out)
    expected_grads = torch.autograd.grad(F.mse_loss(expected, target), [weight, x])
    actual = sparse(x)
    F.mse_loss(actual, target).backward()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(sparse.weight.grad, expected_grads[0])
    torch.testing.assert_close(x.grad, expected_grads[1])
    magnitude = (expected_grads[0].abs() * sparse.view.mask).sum(1)
    torch.testing.assert_close(sparse.view.gradient_magnitude(), magnitude)


def test_dense_gradient_is_recorded_on_request_only(layer):
    sparse = layer()
    x, target = torch.randn(5, 13), torch.randn(5, 11)
    dense = sparse.weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.mse_loss(F.linear(x, dense, sparse.module.bias), target), dense)
    F.mse_loss(sparse(x), target).backward()
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        sparse.view.dense_gradient()
    sparse.module.zero_grad()
    sparse.view.record_dense_gradient = True
    F.mse_loss(sparse(x), target).backward()
    torch.testing.assert_close(sparse.view.dense_gradient(), expected)
    sparse.view.mask_gradient()
    assert not sparse.weight.grad[~sparse.view.mask].any()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ],
)
def test_plain_pytorch_training_never_fills_a_zero(layer, optimizer):
    sparse = layer()
    optimizer = optimizer(sparse.module.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        sparse(torch.randn(4, 13)).square().sum().backward()
        optimizer.step()
    assert not sparse.weight[~sparse.view.mask].any()
    assert sparse.weight[sparse.view.mask].all()


def test_set_mask_zeroes_what_comes_and_goes_and_keeps_what_stays(layer):
    sparse = layer()
    before, mask = sparse.weight.detach().clone(), sparse.view.mask.clone()
    moment = torch.ones_like(before)
    new = torch.rand_like(before) < 0.4
    sparse.view.set_mask(new, [moment])
    stays = mask & new
    assert torch.equal(sparse.view.mask, new)
    assert torch.equal(sparse.weight[stays], before[stays])
    assert not sparse.weight[~stays].any()
    assert torch.equal(moment[mask ^ new], torch.zeros(int((mask ^ new).sum())))
    assert moment[stays].all()


def test_apply_mask_removes_what_an_optimizer_left(layer):
    sparse = layer()
    moment = torch.ones_like(sparse.weight)
    with torch.no_grad():
        sparse.weight.add_(1)
    sparse.view.apply_mask([moment])
    assert not sparse.weight[~sparse.view.mask].any()
    assert torch.equal(moment.bool(), sparse.view.mask)


def test_masks_keep_no_nan(layer):
    """0 · NaN is NaN: an optimizer that underflows would spread it from absent weights."""
    sparse = layer()
    absent = ~sparse.view.mask
    with torch.no_grad():
        sparse.weight[absent] = torch.nan
    sparse.view.apply_mask()
    assert not sparse.weight[absent].any()
    sparse.weight.grad = torch.full_like(sparse.weight, torch.nan)
    sparse.view.mask_gradient()
    assert not sparse.weight.grad[absent].any()
    sparse.weight.grad = None
    (sparse.weight * torch.where(absent, torch.nan, 1.0)).sum().backward()
    assert torch.equal(sparse.weight.grad, sparse.view.mask.to(sparse.weight.dtype))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_is_still_sparse_and_has_a_view_of_its_own(layer, copied):
    sparse = layer()
    before = sparse.view.connectivity
    clone = copied(sparse.module)
    (view,) = sparse_layers(clone).values()
    clone(torch.randn(4, 13)).square().sum().backward()
    assert not clone.weight.grad[~view.mask].any()
    assert sparse.weight.grad is None
    view.set_mask(~view.mask)
    assert sparse.view.connectivity == before
    assert view.parameter is clone.weight


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("records", [False, True])
def test_a_copy_is_sparse_before_anybody_asks_for_its_layers(layer, copied, records):
    """Also one that is made while gradients to absent connections are recorded."""
    sparse = layer()
    sparse.view.record_dense_gradient = records
    clone = copied(sparse.module)
    clone(torch.randn(4, 13)).square().sum().backward()
    assert clone.weight.grad.any()
    assert not clone.weight.grad[~clone.weight_mask].any()


def test_autocast_keeps_the_gradient_sparse(layer):
    sparse = layer()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sparse(torch.randn(4, 13)).float().square().sum()
    loss.backward()
    assert sparse.weight.grad.dtype == torch.float32
    assert not sparse.weight.grad[~sparse.view.mask].any()


def test_fan_in_follows_the_mask(layer):
    sparse = layer()
    assert torch.equal(sparse.view.fan_in, sparse.view.mask.sum(1))
    sparse.view.set_mask(torch.ones_like(sparse.view.mask))
    assert sparse.view.connectivity == Connectivity.full(13, 11)


def test_the_module_stays_what_it_is(layer):
    linear = layer().module
    assert type(linear) is nn.Linear
    assert [name for name, _ in linear.named_parameters()] == ["weight", "bias"]
    assert list(linear.state_dict()) == ["weight", "bias", "weight_mask"]
    assert not linear._forward_hooks
    assert not linear._forward_pre_hooks


def test_without_its_mask_the_module_is_plain_again(layer):
    sparse = layer()
    expected = sparse(torch.ones(2, 13))
    sparse.view.remove()
    assert sparse_layers(sparse.module) == {}
    assert list(sparse.module.state_dict()) == ["weight", "bias"]
    assert torch.equal(sparse.module(torch.ones(2, 13)), expected)
    sparse.module(torch.randn(4, 13)).square().sum().backward()
    assert sparse.weight.grad.all()


KERNELS = [nn.Conv1d(6, 8, 3, groups=2), nn.Conv2d(3, 8, (3, 2)), nn.Conv3d(2, 5, 2)]


@pytest.mark.parametrize("convolution", KERNELS, ids=lambda c: type(c).__name__)
def test_a_kernel_is_seen_as_a_matrix(convolution):
    convolution = copy.deepcopy(convolution)
    dense = convolution.weight.detach().clone().flatten(1)
    n_out, n_in = dense.shape
    connectivity = Connectivity.from_mask(drawn(n_in, n_out, 0.4))
    view = MaskedLayer(convolution, "weight", connectivity)
    mask = torch.from_numpy(connectivity.mask())
    assert (view.n_out, view.n_in) == (n_out, n_in)
    assert view.connectivity == connectivity
    assert torch.equal(convolution.weight.detach().flatten(1), dense * mask)
    assert torch.equal(view.active_values(), dense[mask])
    x = torch.randn(2, convolution.in_channels, *[5] * (convolution.weight.dim() - 2))
    convolution(x).square().sum().backward()
    expected = convolution.weight.grad.clone()
    assert not expected.flatten(1)[~mask].any()
    torch.testing.assert_close(view.gradient_magnitude(), expected.flatten(1).abs().sum(1))
    convolution.zero_grad()
    view.record_dense_gradient = True
    convolution(x).square().sum().backward()
    assert view.dense_gradient().all()
    torch.testing.assert_close(view.dense_gradient() * mask, expected.flatten(1))
    torch.testing.assert_close(view.gradient_at(view.active_positions()), expected.flatten(1)[mask])
    moment = torch.ones_like(convolution.weight)
    view.set_mask(~mask, [moment])
    assert not convolution.weight.any()
    assert not moment.any()
    values = torch.arange(1.0, int((~mask).sum()) + 1)
    view.set_values(values)
    assert torch.equal(convolution.weight.detach().flatten(1)[~mask], values)
    assert torch.equal(
        view.expand(view.compress(convolution.weight.detach()), view.active_positions()), convolution.weight
    )


def test_any_parameter_can_be_masked():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    view = MaskedLayer(attention, "in_proj_weight", Connectivity.from_mask(drawn(8, 24, 0.3)))
    assert sparse_layers(attention) == {"in_proj_weight": view}
    x = torch.randn(2, 5, 8)
    attention(x, x, x)[0].square().sum().backward()
    assert not attention.in_proj_weight.grad[~view.mask].any()
    assert attention.in_proj_weight.grad.any()


def test_a_frozen_weight_is_masked_once_it_is_trained(layer):
    sparse = layer()
    frozen = nn.Linear(13, 11)
    frozen.weight.requires_grad_(False)
    view = MaskedLayer(frozen, "weight", sparse.view.connectivity)
    assert not frozen.weight.requires_grad
    frozen.weight.requires_grad_()
    frozen(torch.randn(4, 13)).square().sum().backward()
    assert not frozen.weight.grad[~view.mask].any()
