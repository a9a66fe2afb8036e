"""The csr layer against dense autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import RigLRule, moments_of, update_layer
from psn_lightning.kernels import pool, structure
from psn_lightning.kernels.tiled import Stack
from psn_lightning.nn import sparse_layers, sparsify
from psn_lightning.nn.states import read_connections
from psn_lightning.nn.storages import make_csr_linear
from psn_lightning.topology import Connectivity
from tests.helpers.layers import STORAGES, drawn, pair, random_linear


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Cut the small layers of these tests into many blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_SIDES", (8, 64))
        patch.setattr(structure, "_SHORTEST_RUN", 0.1)
        yield


def backward(layer, x, g):
    x = x.clone().requires_grad_()
    layer.module.zero_grad()
    y = layer(x)
    y.backward(g)
    return y.detach(), x.grad, layer.view.compress(layer.weight.grad), layer.module.bias.grad


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
    bias, inputs = masked.module.bias.detach().clone().requires_grad_(), x.clone().requires_grad_()
    expected = F.linear(inputs, weight, bias)
    expected.backward(g)
    y, to_x, to_values, to_bias = backward(csr, x, g)
    tolerance = {"atol": 1e-3, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(y, expected.detach(), **tolerance)
    torch.testing.assert_close(to_x, inputs.grad, **tolerance)
    torch.testing.assert_close(to_values, weight.grad[masked.view.mask], **tolerance)
    torch.testing.assert_close(to_bias, bias.grad, **tolerance)


@pytest.mark.parametrize("batch", [1, 5, 40])
def test_gradcheck(batch):
    csr, _ = pair(drawn(7, 5, 0.5))
    stack = Stack([csr.module.stage()])

    def product(x, values, bias):
        return stack(x, [values, bias])

    inputs = [torch.randn(batch, 7), csr.weight.detach(), csr.module.bias.detach()]
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
    monkeypatch.setattr(pool, "_find_openmp", lambda: alone)
    alone = pool._make_single_thread()
    for a, b in zip(backward(csr, x, g), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_interface_is_that_of_masked():
    mask = drawn(50, 40, 0.2)
    mask[3] = False
    csr, masked = pair(mask)
    assert (csr.view.n_out, csr.view.n_in) == (masked.view.n_out, masked.view.n_in) == (40, 50)
    assert csr.view.connectivity == masked.view.connectivity
    assert torch.equal(csr.view.fan_in, masked.view.fan_in)
    assert torch.equal(csr.view.mask, masked.view.mask)
    assert torch.equal(csr.view.active_positions(), masked.view.active_positions())
    assert torch.equal(csr.view.active_values(), masked.view.active_values())
    x, g = torch.randn(9, 50).double(), torch.randn(9, 40).double()
    for layer in (csr, masked):
        backward(layer, x, g)
    torch.testing.assert_close(csr.view.gradient_magnitude(), masked.view.gradient_magnitude())
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        csr.view.dense_gradient()
    assert csr.module.extra_repr() == f"50, 40, connections={int(mask.sum())}"


def test_dense_gradient_in_blocks_and_over_micro_batches():
    csr, masked = pair(drawn(30, 20, 0.3))
    for _ in range(2):  # an earlier step must leave nothing behind
        for layer in (csr, masked):
            layer.view.record_dense_gradient = True
            layer.module.zero_grad()
            for seed in (1, 2):
                generator = torch.Generator().manual_seed(seed)
                x = torch.randn(140 + seed, 30, dtype=torch.float64, generator=generator)
                layer(x).square().mean().backward()
    torch.testing.assert_close(csr.view.dense_gradient(), masked.view.dense_gradient())
    torch.testing.assert_close(csr.view.dense_gradient(slice(5, 9)), masked.view.dense_gradient()[5:9])
    absent = (~csr.view.mask).flatten().nonzero().squeeze(1)
    torch.testing.assert_close(csr.view.gradient_at(absent), masked.view.dense_gradient().flatten()[absent])


@pytest.mark.parametrize("records", [True, False])
def test_what_was_recorded_is_forgotten_when_recording_is_set(records):
    csr, _ = pair(drawn(30, 20, 0.3))
    csr.view.record_dense_gradient = True
    csr(torch.ones(9, 30).double()).sum().backward()
    assert csr.view.dense_gradient().any()
    csr.view.record_dense_gradient = records
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        csr.view.dense_gradient()


@settings(max_examples=25, deadline=None)
@given(density=st.floats(0, 1), after=st.floats(0, 1), seed=st.integers(0, 99))
def test_changing_the_connections_moves_weights_moments_and_gradient(density, after, seed):
    new = torch.from_numpy(drawn(13, 11, after, seed + 1))
    x = torch.randn(6, 13, generator=torch.Generator().manual_seed(seed)).double()
    csr, masked = pair(drawn(13, 11, density, seed))
    moments = []
    for layer in (csr, masked):
        optimizer = torch.optim.Adam(layer.module.parameters(), lr=0.1)
        layer(x).square().sum().backward()
        optimizer.step()
        layer.view.set_mask(new, moments_of(layer.view, optimizer))
        layer.view.mask_gradient()
        optimizer.step()
        moments.append([layer.view.compress(moment) for moment in moments_of(layer.view, optimizer)])
    assert torch.equal(csr.view.mask, new)
    torch.testing.assert_close(csr.view.active_values(), masked.view.active_values())
    assert len(moments[0]) == 2
    for a, b in zip(*moments, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("skip", [True, False])
def test_an_update_is_that_of_masked(skip):
    layers = pair(drawn(60, 40, 0.2))
    for layer in layers:
        optimizer = torch.optim.Adam(layer.module.parameters(), lr=0.01)
        for step in range(12):
            x = torch.randn(20, 60, generator=torch.Generator().manual_seed(step)).double()
            layer.view.record_dense_gradient = step % 4 == 3
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            if layer.view.record_dense_gradient:
                update_layer(layer.view, RigLRule(), 0.3, optimizer, torch.Generator())
                layer.view.mask_gradient()
                if skip:
                    continue
            optimizer.step()
    assert torch.equal(layers[0].view.mask, layers[1].view.mask)
    torch.testing.assert_close(layers[0].view.active_values(), layers[1].view.active_values())


def test_positions_of_any_layout_are_taken_and_not_kept():
    csr, masked = pair(drawn(30, 20, 0.5))
    every_other = csr.view.active_positions().clone()[::2]
    for layer in (csr, masked):
        layer.view.set_active(every_other)
    every_other.zero_()
    assert torch.equal(csr.view.active_positions(), masked.view.active_positions())
    assert torch.equal(csr.view.active_values(), masked.view.active_values())


def test_a_second_backward_pass_adds_to_the_recording():
    csr, masked = pair(drawn(30, 20, 0.3))
    for layer in (csr, masked):
        layer.view.record_dense_gradient = True
        y = layer(torch.ones(9, 30, dtype=torch.float64))
        y.square().sum().backward(retain_graph=True)
        y.sum().backward()
    torch.testing.assert_close(csr.view.dense_gradient(), masked.view.dense_gradient())


@pytest.mark.parametrize("storage", STORAGES)
def test_values_are_taken_in_the_order_of_positions(storage):
    linear = random_linear(storage=storage)
    values = torch.arange(1.0, 1 + len(linear.view.active_positions()))
    linear.view.set_values(values)
    values_before = values.clone()
    values.zero_()
    assert torch.equal(linear.view.active_values(), values_before)
    weight = torch.zeros(11 * 13)
    weight[linear.view.active_positions()] = values_before
    torch.testing.assert_close(linear(torch.eye(13)), weight.view(11, 13).T)


def test_without_a_bias():
    connectivity = Connectivity.from_mask(drawn(30, 20, 0.3))
    values = torch.randn(connectivity.n_connections)
    csr = make_csr_linear(connectivity, values, None)
    x = torch.randn(9, 30)
    weight = torch.zeros(20, 30)
    weight[csr.mask] = values
    torch.testing.assert_close(csr(x), x @ weight.T)
    assert [name for name, _ in csr.named_parameters()] == ["weight"]
    assert set(csr.state_dict()) == {"in_features", "blocks", "values", "indptr", "indices"}
    assert csr.extra_repr() == f"30, 20, connections={connectivity.n_connections}, bias=False"


def test_other_devices_are_refused():
    csr, _ = pair(drawn(5, 4, 0.5))
    with pytest.raises(RuntimeError, match=r"storage csr .* meta"):
        csr(torch.empty(2, 5, device="meta"))


def test_an_input_of_another_number_type_is_refused_but_under_autocast():
    csr, _ = pair(drawn(5, 4, 0.5), torch.float32)
    x = torch.randn(2, 5)
    with pytest.raises(RuntimeError, match=r"torch\.float64.* torch\.float32"):
        csr(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(csr(x.bfloat16()), csr(x.bfloat16().float()))


def test_second_derivatives_are_refused():
    csr, _ = pair(drawn(5, 4, 0.5))
    x = torch.randn(2, 5).double().requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(csr(x).sum(), x, create_graph=True)


def both(sparsity=0.6):
    """The same two layers in both storages, recording."""
    networks = []
    for storage in ("masked", "csr"):
        torch.manual_seed(4)
        module = torch.nn.Sequential(torch.nn.Linear(12, 20), torch.nn.Tanh(), torch.nn.Linear(20, 16)).double()
        sparsify(module, sparsity, storage=storage)
        for layer in sparse_layers(module).values():
            layer.record_dense_gradient = True
        networks.append(module)
    return networks


def zeroed(module, x):
    module(x).square().sum().backward()
    module.zero_grad()
    module(x / 2).sum().backward()


def differentiated_to_the_input(module, x):
    x = x.clone().requires_grad_()
    torch.autograd.grad(module(x).square().sum(), x)
    module(x.detach()).sum().backward()


def frozen(module, x):
    module.requires_grad_(False)
    module(x.clone().requires_grad_()).square().sum().backward()
    module.requires_grad_(True)
    module(x).sum().backward()


def accumulated(module, x):
    module(x).square().sum().backward()
    module(x / 2).sum().backward()


@pytest.mark.parametrize("passes", [zeroed, differentiated_to_the_input, frozen, accumulated])
def test_only_passes_that_reached_the_gradient_are_in_the_dense_one(passes):
    x = torch.randn(6, 12, dtype=torch.float64)
    masked, csr = both()
    for module in (masked, csr):
        passes(module, x)
    for name, layer in sparse_layers(masked).items():
        torch.testing.assert_close(sparse_layers(csr)[name].dense_gradient(), layer.dense_gradient())


def test_what_was_done_to_the_gradient_holds_for_new_connections():
    x = torch.randn(6, 12, dtype=torch.float64)
    masked, csr = both()
    for module in (masked, csr):
        module(x).square().sum().backward()
        for parameter in module.parameters():
            parameter.grad.mul_(0.125)
        for layer in sparse_layers(module).values():
            update_layer(layer, RigLRule(), 0.4, None, torch.Generator())
            layer.mask_gradient()
    for name, layer in sparse_layers(masked).items():
        other = sparse_layers(csr)[name]
        assert torch.equal(other.active_positions(), layer.active_positions())
        torch.testing.assert_close(other.parameter.grad, layer.compress(layer.parameter.grad))


def test_a_gradient_is_left_alone_where_nothing_has_grown():
    _, csr = both()
    csr(torch.randn(6, 12, dtype=torch.float64)).square().sum().backward()
    csr[0].weight.grad.mul_(0.1)
    before = csr[0].weight.grad.clone()
    csr[0].mask_gradient()
    assert torch.equal(csr[0].weight.grad, before)


def test_a_checkpoint_states_the_order_of_the_parameter(monkeypatch):
    first, _ = pair(drawn(150, 90, 0.3))
    state = first.module.state_dict()
    assert state["blocks"].tolist() > [1, 1]
    monkeypatch.setattr(structure, "_SIDES", (90, 90))  # a version that cuts other blocks
    other = make_csr_linear(first.view.connectivity, torch.zeros(first.view.n_connections).double(), None)
    assert other.structure.blocks != first.module.structure.blocks
    other.load_state_dict(state, strict=False)
    assert torch.equal(other.weight, first.weight)


def test_a_copy_that_follows_keeps_the_order_of_the_parameter():
    """Averages of a network are computed parameter by parameter; a checkpoint may have given it other blocks."""
    csr, _ = pair(drawn(150, 90, 0.3))
    layer, positions = csr.view, csr.view.active_positions()
    layer.load_state_dict({**layer.state_dict(), "blocks": torch.tensor([2, 3])})
    copy = make_csr_linear(layer.connectivity, torch.zeros(len(positions)).double(), csr.module.bias.detach())
    copy.load_state_dict(layer.state_dict())
    copy.set_active(positions)
    assert torch.equal(copy.weight, layer.weight)
    copy.set_active(positions[:-100])
    assert copy.structure.blocks == structure.choose_blocks(90, 150, len(positions) - 100) != (2, 3)


def test_a_network_that_is_moved_from_the_cpu_is_refused():
    csr, _ = pair(drawn(15, 9, 0.3))
    csr.module.to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        csr(torch.randn(2, 15, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="meta"):
        csr.module.state_dict()


def test_moments_are_sorted_without_the_compiled_engine():
    csr, _ = pair(drawn(150, 90, 0.3))
    found = read_connections(csr.module.state_dict(), "", (90, 150))
    moment = torch.randn(csr.view.n_connections)
    assert torch.equal(found.sort_moment(moment), csr.view.compress(moment))


@pytest.mark.parametrize("blocks", [[3], [0, 1], [1, 2, 3], [10, 1], [1, 16]])
def test_numbers_of_blocks_that_cannot_be_are_refused(blocks):
    csr, _ = pair(drawn(15, 9, 0.3))
    with pytest.raises(RuntimeError, match="blocks"):
        csr.module.load_state_dict({**csr.module.state_dict(), "blocks": torch.tensor(blocks)})
