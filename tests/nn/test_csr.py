"""The csr layer against dense autograd."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import RigLRule, moments_of, update_layer
from psn_lightning.nn.csr import CSRLinear
from psn_lightning.nn.kernels import pool
from psn_lightning.nn.masked import MaskedLinear
from psn_lightning.nn.tiled import Stack
from psn_lightning.topology import Connectivity


def pair(mask, dtype=torch.float64):
    """The same weights in both storages."""
    connectivity = Connectivity.from_mask(mask)
    layers = [cls(connectivity, "mean_fan_in", np.random.default_rng(1)).to(dtype) for cls in (CSRLinear, MaskedLinear)]
    with torch.no_grad():
        for layer in layers:
            layer.bias.copy_(torch.linspace(-1, 1, len(layer.bias)))
    return layers


def drawn(n_in, n_out, density, seed=0):
    return np.random.default_rng(seed).random((n_out, n_in)) < density


def backward(layer, x, g):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(g)
    return y.detach(), x.grad, layer.weight.grad, layer.bias.grad


@settings(max_examples=60, deadline=None)
@given(
    n_in=st.integers(1, 600),
    n_out=st.integers(1, 300),
    batch=st.integers(1, 300),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.1]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_are_those_of_dense_autograd(n_in, n_out, batch, density, dtype):
    mask = drawn(n_in, n_out, density)
    if n_out > 2:
        mask[0] = False
        mask[-1] = True
    csr, masked = pair(mask, dtype)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, n_in, generator=generator, dtype=dtype)
    g = torch.randn(batch, n_out, generator=generator, dtype=dtype)
    weight = masked.weight.detach().clone().requires_grad_()
    bias, inputs = masked.bias.detach().clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.linear(inputs, weight, bias)
    expected.backward(g)
    y, to_x, to_values, to_bias = backward(csr, x, g)
    tolerance = {"atol": 1e-3, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(y, expected.detach(), **tolerance)
    torch.testing.assert_close(to_x, inputs.grad, **tolerance)
    torch.testing.assert_close(to_values, weight.grad[masked.mask], **tolerance)
    torch.testing.assert_close(to_bias, bias.grad, **tolerance)


@pytest.mark.parametrize("batch", [1, 5, 40])
def test_gradcheck(batch):
    csr, _ = pair(drawn(7, 5, 0.5))
    stack = Stack([csr.stage()])

    def product(x, values, bias):
        return stack(x, [values, bias])

    inputs = [torch.randn(batch, 7), csr.weight.detach(), csr.bias.detach()]
    assert torch.autograd.gradcheck(product, [i.double().clone().requires_grad_() for i in inputs])


@pytest.mark.parametrize("n_threads", [1, 2, 3, 9])
def test_the_result_does_not_depend_on_the_number_of_threads(n_threads):
    csr, _ = pair(drawn(300, 200, 0.1), torch.float32)
    x, g = torch.randn(130, 300), torch.randn(130, 200)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    y, to_x, *to_parameters = backward(csr, x, g)
    torch.set_num_threads(n_threads)
    try:
        y_again, to_x_again, *again = backward(csr, x, g)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(y, y_again)
    assert torch.equal(to_x, to_x_again)
    for a, b in zip(to_parameters, again, strict=True):  # sums over tiles, which are as many as the threads need
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_without_openmp_one_thread_does_it(monkeypatch):
    csr, _ = pair(drawn(30, 20, 0.1))
    x, g = torch.randn(130, 30).double(), torch.randn(130, 20).double()
    expected = backward(csr, x, g)
    monkeypatch.setattr(pool, "_openmp", lambda: alone)
    alone = pool._one_by_one()
    for a, b in zip(backward(csr, x, g), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_interface_is_that_of_masked():
    mask = drawn(50, 40, 0.2)
    mask[3] = False
    csr, masked = pair(mask)
    assert csr.connectivity == masked.connectivity
    assert torch.equal(csr.fan_in, masked.fan_in)
    assert torch.equal(csr.mask, masked.mask)
    assert torch.equal(csr.active_positions(), masked.active_positions())
    assert torch.equal(csr.active_values(), masked.active_values())
    x, g = torch.randn(9, 50).double(), torch.randn(9, 40).double()
    for layer in (csr, masked):
        backward(layer, x, g)
    torch.testing.assert_close(csr.gradient_magnitude(), masked.gradient_magnitude())
    with pytest.raises(RuntimeError, match="no dense gradient"):
        csr.dense_gradient()
    assert csr.extra_repr() == masked.extra_repr()


@pytest.mark.parametrize("source", [0, 1])
def test_state_dicts_interchange(source):
    layers = pair(drawn(30, 20, 0.3))
    target = pair(drawn(30, 20, 0.6, seed=5))[1 - source]
    state = layers[source].state_dict()
    target.load_state_dict(copy.deepcopy(state))
    assert target.connectivity == layers[source].connectivity
    assert {k: v.tolist() for k, v in target.state_dict().items()} == {k: v.tolist() for k, v in state.items()}


def test_dense_gradient_in_blocks_and_over_micro_batches():
    csr, masked = pair(drawn(30, 20, 0.3))
    csr.record_dense_gradient = masked.record_dense_gradient = True
    for _ in range(2):  # an earlier step must leave nothing behind
        for layer in (csr, masked):
            layer.zero_grad()
            for seed in (1, 2):
                generator = torch.Generator().manual_seed(seed)
                x = torch.randn(140 + seed, 30, dtype=torch.float64, generator=generator)
                layer(x).square().mean().backward()
    torch.testing.assert_close(csr.dense_gradient(), masked.dense_gradient())
    torch.testing.assert_close(csr.dense_gradient(slice(5, 9)), masked.dense_gradient()[5:9])


@settings(max_examples=25, deadline=None)
@given(density=st.floats(0, 1), after=st.floats(0, 1), seed=st.integers(0, 99))
def test_changing_the_connections_moves_weights_moments_and_gradient(density, after, seed):
    layers = pair(drawn(13, 11, density, seed))
    new = torch.from_numpy(drawn(13, 11, after, seed + 1))
    x = torch.randn(6, 13, generator=torch.Generator().manual_seed(seed)).double()
    for layer in layers:
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        layer(x).square().sum().backward()
        optimizer.step()
        layer.set_mask(new, moments_of(layer, optimizer))
        layer.mask_gradient()
        optimizer.step()
        layer.moments = moments_of(layer, optimizer)
    csr, masked = layers
    assert torch.equal(csr.mask, new)
    torch.testing.assert_close(csr.active_values(), masked.active_values())
    assert len(csr.moments) == 2
    for a, b in zip(csr.moments, masked.moments, strict=True):
        torch.testing.assert_close(a, b[masked.active])


@pytest.mark.parametrize("skip", [True, False])
def test_an_update_is_that_of_masked(skip):
    layers = pair(drawn(60, 40, 0.2))
    for layer in layers:
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        for step in range(12):
            x = torch.randn(20, 60, generator=torch.Generator().manual_seed(step)).double()
            layer.record_dense_gradient = step % 4 == 3
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            if layer.record_dense_gradient:
                update_layer(layer, RigLRule(), 0.3, optimizer, torch.Generator())
                layer.mask_gradient()
                if skip:
                    continue
            optimizer.step()
    assert torch.equal(layers[0].mask, layers[1].mask)
    torch.testing.assert_close(layers[0].active_values(), layers[1].active_values())


def test_positions_of_any_layout_are_taken_and_not_kept():
    csr, masked = pair(drawn(30, 20, 0.5))
    every_other = csr.active_positions().clone()[::2]
    for layer in (csr, masked):
        layer.set_active(every_other)
    every_other.zero_()
    assert torch.equal(csr.active_positions(), masked.active_positions())
    assert torch.equal(csr.active_values(), masked.active_values())


def test_a_second_backward_pass_adds_to_the_recording():
    csr, masked = pair(drawn(30, 20, 0.3))
    for layer in (csr, masked):
        layer.record_dense_gradient = True
        y = layer(torch.ones(9, 30, dtype=torch.float64))
        y.square().sum().backward(retain_graph=True)
        y.sum().backward()
    torch.testing.assert_close(csr.dense_gradient(), masked.dense_gradient())


def test_other_devices_are_refused():
    csr, _ = pair(drawn(5, 4, 0.5))
    with pytest.raises(RuntimeError, match="storage csr runs on CPUs only"):
        csr(torch.empty(2, 5, device="meta"))
