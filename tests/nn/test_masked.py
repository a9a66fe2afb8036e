"""The masked layer against the obvious: a dense weight multiplied with its mask."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.topology import Connectivity


def oracle(layer, x):
    weight = layer.weight.detach().clone().requires_grad_()
    return weight, F.linear(x, weight * layer.mask, layer.bias)


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
    torch.testing.assert_close(sparse.gradient_magnitude(), (expected_grads[0].abs() * sparse.mask).sum(1))


def test_dense_gradient_is_recorded_on_request_only(layer):
    sparse = layer()
    x, target = torch.randn(5, 13), torch.randn(5, 11)
    dense = sparse.weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.mse_loss(F.linear(x, dense, sparse.bias), target), dense)
    F.mse_loss(sparse(x), target).backward()
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        sparse.dense_gradient()
    sparse.zero_grad()
    sparse.record_dense_gradient = True
    F.mse_loss(sparse(x), target).backward()
    torch.testing.assert_close(sparse.dense_gradient(), expected)
    sparse.mask_gradient()
    assert not sparse.weight.grad[~sparse.mask].any()


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
    optimizer = optimizer(sparse.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        sparse(torch.randn(4, 13)).square().sum().backward()
        optimizer.step()
    assert not sparse.weight[~sparse.mask].any()
    assert sparse.weight[sparse.mask].all()


def test_set_mask_zeroes_what_comes_and_goes_and_keeps_what_stays(layer):
    sparse = layer()
    before, mask = sparse.weight.detach().clone(), sparse.mask.clone()
    moment = torch.ones_like(before)
    new = torch.rand_like(before) < 0.4
    sparse.set_mask(new, [moment])
    stays = mask & new
    assert torch.equal(sparse.mask, new)
    assert torch.equal(sparse.weight[stays], before[stays])
    assert not sparse.weight[~stays].any()
    assert torch.equal(moment[mask ^ new], torch.zeros(int((mask ^ new).sum())))
    assert moment[stays].all()


def test_apply_mask_removes_what_an_optimizer_left(layer):
    sparse = layer()
    moment = torch.ones_like(sparse.weight)
    with torch.no_grad():
        sparse.weight.add_(1)
    sparse.apply_mask([moment])
    assert not sparse.weight[~sparse.mask].any()
    assert torch.equal(moment.bool(), sparse.mask)


def test_state_dict_is_the_active_connections(layer):
    sparse = layer(seed=3)
    state = sparse.state_dict()
    assert set(state) == {"in_features", "values", "indptr", "indices", "bias"}
    other = layer(seed=4)
    other.load_state_dict(state)
    assert other.connectivity == sparse.connectivity
    assert torch.equal(other.weight, sparse.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("values"), "Missing key"),
        (lambda s: s.update(indptr=s["indptr"][:-1]), "neurons"),
        (lambda s: s.update(indices=s["indices"] + 100), "indices must lie"),
        (lambda s: s.update(in_features=torch.tensor(14)), "the checkpoint has 14 inputs, the layer 13"),
        (lambda s: s.update(values=s["values"][:-1]), "weights of"),
        (lambda s: s.update(values=s["values"].long()), "weights of"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(layer, change, message):
    state = layer().state_dict()
    change(state)
    target = layer(seed=9)
    before = target.connectivity
    with pytest.raises(RuntimeError, match=message):
        target.load_state_dict(state)
    assert target.connectivity == before


def test_a_state_dict_of_an_earlier_version_is_taken(layer):
    state = layer(seed=3).state_dict()
    del state["in_features"]
    other = layer(seed=4)
    other.load_state_dict(state)
    assert torch.equal(other.weight, layer(seed=3).weight)


def test_a_copy_is_still_sparse(layer):
    clone = copy.deepcopy(layer())
    clone(torch.randn(4, 13)).square().sum().backward()
    assert not clone.weight.grad[~clone.mask].any()


def test_autocast_keeps_the_gradient_sparse(layer):
    sparse = layer()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sparse(torch.randn(4, 13)).float().square().sum()
    loss.backward()
    assert sparse.weight.grad.dtype == torch.float32
    assert not sparse.weight.grad[~sparse.mask].any()


def test_fan_in_follows_the_mask(layer):
    sparse = layer()
    assert torch.equal(sparse.fan_in, sparse.mask.sum(1))
    sparse.set_mask(torch.ones_like(sparse.mask))
    assert sparse.connectivity == Connectivity.full(13, 11)
