"""A whole csr network in one go against its modules one by one, and what a stack does with its memory."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from psn_lightning.kernels.tiled import Stack
from psn_lightning.kernels.workspace import Stage
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology


def network_of(sizes=(30, 40, 20, 3), seed=1, dtype=torch.float64, storage="csr"):
    network = SparseMLP(sizes, Topology(Bernoulli(), 0.7), storage=storage, seed=seed).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    for module in network:
        if isinstance(module, nn.LayerNorm):
            module.weight.data.uniform_(-1, 2, generator=generator)
            module.bias.data.normal_(generator=generator)
    return network


def batch_of(n, n_in=30, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, n_in, dtype=dtype, generator=generator)
    return x, torch.randint(0, 3, (n,), generator=generator)


def passed(network, x, y):
    """Logits and the gradients of everything."""
    network.zero_grad()
    x = x.clone().requires_grad_()
    logits = network(x)
    F.cross_entropy(logits, y, reduction="sum").backward()
    return [logits.detach(), x.grad, *(p.grad.clone() for p in network.parameters())]


def is_at_a_kink(network, x):
    """Whether rounding decides on which side of a ReLU an activation is, and with it a whole row of gradients."""
    for module in network:
        x = module(x)
        if isinstance(module, nn.LayerNorm) and (x.abs() < 1e-6).any():
            return True
    return False


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 150), min_size=2, max_size=4),
    n=st.integers(0, 300),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_at_once_is_module_by_module(sizes, n, dtype):
    network = network_of((*sizes, 3), dtype=dtype)
    x, y = batch_of(n, sizes[0], dtype)
    assume(dtype == torch.float64 or not is_at_a_kink(network, x))
    at_once = passed(network, x, y)
    network.fused = False
    one_by_one = passed(network, x, y)
    tolerance = {"atol": 2e-4, "rtol": 1e-3} if dtype == torch.float32 else {"atol": 1e-9, "rtol": 1e-8}
    for a, b in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("n", [0, 1, 256, 257, 700])
def test_evaluation_takes_a_part_at_a_time(n):
    network = network_of()
    x, _ = batch_of(n)
    with torch.no_grad():
        logits = network(x)
    torch.testing.assert_close(logits, network(x).detach())


@pytest.mark.parametrize("n", [1, 5, 17])
def test_an_epsilon_of_zero_is_that_of_the_modules(n):
    """Columns of a tile without a row have no variance at all where the bias is 0."""
    network = network_of()
    for module in network:
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.0
        elif hasattr(module, "bias"):
            module.bias.data.zero_()
    at_once = passed(network, *batch_of(n))
    network.fused = False
    for a, b in zip(at_once, passed(network, *batch_of(n)), strict=True):
        torch.testing.assert_close(a, b)


def test_memory_made_in_inference_mode_serves_a_later_topology():
    network, (x, _) = network_of(), batch_of(20)
    with torch.inference_mode():
        network(x)
    network.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.isfinite(network(x)).all()


def test_gradcheck_through_layernorm_and_relu():
    network = network_of((6, 9, 3))
    stack = Stack([network.fc1.stage(network.norm1), Stage(_whole(9, 3))])
    parameters = [network.fc1.weight, network.fc1.bias, network.norm1.weight, network.norm1.bias]
    parameters += [network.output.weight, network.output.bias]
    inputs = [p.detach().clone().requires_grad_() for p in (batch_of(5, 6)[0], *parameters)]
    assert torch.autograd.gradcheck(lambda x, *p: stack(x, p), inputs)


def _whole(n_in, n_out):
    from psn_lightning.kernels.structure import Structure

    return Structure(np.arange(n_in * n_out), n_out, n_in)


def test_nan_stays_nan():
    x, _ = batch_of(4)
    x[2, 5:] = torch.nan
    logits = network_of()(x)
    assert logits[2].isnan().all()
    assert not logits[[0, 1, 3]].isnan().any()


def test_hooks_are_called_where_the_network_is_not_fused():
    network, seen = network_of(), []
    network.norm2.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert network.fused
    network(batch_of(7)[0])
    assert seen == []
    network.fused = False
    network(batch_of(7)[0])
    assert seen == [(7, 20)]
    network.fused = True
    network(batch_of(7)[0])
    assert seen == [(7, 20)]


def test_passes_that_overlap_do_not_share_memory():
    network, (x, y) = network_of(), batch_of(20)
    F.cross_entropy(network(x), y).backward()
    expected = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    first, second = network(x), network(-x)
    F.cross_entropy(first, y).backward()
    for p, g in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g)
    F.cross_entropy(second, y).backward()  # its activations are still there
    doubled = [2 * p.grad for p in network.parameters()]
    network.zero_grad()
    for _ in range(2):
        F.cross_entropy(network(x), y).backward()
        F.cross_entropy(network(-x), y).backward()
    for p, g in zip(network.parameters(), doubled, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_backward_twice():
    network, (x, y) = network_of(), batch_of(20)
    loss = F.cross_entropy(network(x), y)
    once = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    again = torch.autograd.grad(loss, list(network.parameters()))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)


def test_memory_is_used_again():
    network, (x, y) = network_of(), batch_of(20)
    F.cross_entropy(network(x), y).backward()
    free = network._as_one._stack._free
    (before,) = next(iter(free.values()))
    F.cross_entropy(network(x), y).backward()
    assert [workspace is before for workspace in next(iter(free.values()))] == [True]
    for n in range(1, 10):
        network(batch_of(n)[0])
    assert len(free) <= 4


def test_passes_with_and_without_a_gradient_to_the_batch_take_turns():
    network, (x, y) = network_of(), batch_of(20)
    expected = passed(network, x, y)
    F.cross_entropy(network(x), y).backward()
    for a, b in zip(passed(network, x, y), expected, strict=True):
        assert torch.equal(a, b)


def test_gradients_outlive_the_next_pass():
    network, (x, y) = network_of(), batch_of(20)
    F.cross_entropy(network(x), y).backward()
    kept = network.fc1.weight.grad
    before = kept.clone()
    network.zero_grad()
    F.cross_entropy(network(-x), y).backward()
    assert torch.equal(kept, before)


def test_a_replaced_module_ends_the_fusion():
    network = network_of()
    network.relu1 = nn.ReLU()
    assert not network.fused


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_works_in_memory_of_its_own(copied):
    network, (x, y) = network_of(), batch_of(20)
    expected = passed(network, x, y)
    other = copied(network)
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    del network
    for a, b in zip(passed(other, x, y), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_must_not_be_replaced_between_the_passes():
    network, (x, y) = network_of(), batch_of(20)
    loss = F.cross_entropy(network(x), y)
    network.fc2.set_mask(~network.fc2.mask)
    with pytest.raises(RuntimeError, match="weights"):
        loss.backward()


def test_a_new_topology_is_taken_up():
    network, (x, y) = network_of(), batch_of(20)
    passed(network, x, y)
    for layer in network.sparse_layers().values():  # the first one's connections matter to the gradient to the batch
        layer.set_mask(~layer.mask)
        layer.parameter.data.normal_()
    at_once = passed(network, x, y)
    network.fused = False
    for a, b in zip(at_once, passed(network, x, y), strict=True):
        torch.testing.assert_close(a, b)


def test_other_number_types_are_refused():
    with pytest.raises(RuntimeError, match=r"torch\.bfloat16"):
        network_of(dtype=torch.bfloat16)(batch_of(4)[0])


@pytest.mark.parametrize("shape", [(8, 20), (256, 3), (8, 31), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="30"):
        network_of()(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(30,), (4, 5, 30)])
def test_leading_dimensions_are_kept(shape):
    network, x = network_of(), torch.randn(shape, dtype=torch.float64)
    logits = network(x)
    torch.testing.assert_close(logits, F.linear(_until_output(network, x), network.output.weight, network.output.bias))


def _until_output(network, x):
    flat = x.reshape(-1, x.shape[-1])
    for module in list(network)[:-1]:
        flat = module(flat)
    return flat.view(*x.shape[:-1], -1)


def test_parameters_of_any_layout_are_read_as_they_are():
    network, (x, y) = network_of(), batch_of(20)
    expected = passed(network, x, y)
    network.output.weight.data = network.output.weight.data.T.contiguous().T
    for a, b in zip(passed(network, x, y), expected, strict=True):
        torch.testing.assert_close(a, b)
    network.output.float()
    with pytest.raises(RuntimeError, match=r"\(3,\) torch\.float32"):
        network(x)


def replace_output(network):
    network.output = nn.Linear(20, 5).double()


def replace_relu(network):
    network.relu1 = nn.GELU()


def change_epsilon(network):
    network.norm1.eps = 0.5


def override_forward(network):
    network.norm2.forward = lambda x: 2 * x
    network.fused = False


def replace_by_index(network):
    network[2] = nn.GELU()


def append(network):
    network.append(nn.Softmax(dim=1))


def add_module(network):
    network.add_module("scale", nn.Softmax(dim=1))


def extend(network):
    network.extend([nn.Softmax(dim=1)])


def delete(network):
    del network.relu2


CHANGES = [
    replace_output, replace_relu, change_epsilon, override_forward, append, replace_by_index, add_module, extend,
    delete,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_is_what_its_modules_are(change):
    network, x = network_of(), batch_of(20)[0]
    network(x)
    change(network)
    one_by_one = x
    for module in network:
        one_by_one = module(one_by_one)
    torch.testing.assert_close(network(x), one_by_one)


def test_global_and_backward_hooks_are_called_where_the_network_is_not_fused():
    network, (x, y), seen = network_of(), batch_of(7), []
    network.fused = False
    network.norm1.register_full_backward_hook(lambda *_: seen.append("backward"))
    F.cross_entropy(network(x), y).backward()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        network(x)
    finally:
        handle.remove()
    assert seen[0] == "backward"
    assert seen.count("LayerNorm") == 2


def test_threads_do_not_share_a_workspace():
    network = network_of((64, 256, 256, 3), dtype=torch.float32)
    batches = [torch.randn(64, 64) for _ in range(3)]

    def wrong(x):
        with torch.no_grad():
            expected = network(x)
            return sum(not torch.equal(network(x), expected) for _ in range(100))

    with torch.no_grad():
        network(batches[0])
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(wrong, batches)) == [0, 0, 0]


def test_gradients_of_many_tiles_take_no_more_memory_than_the_parameters():
    network, (x, y) = network_of(), batch_of(2000)
    F.cross_entropy(network(x), y).backward()
    kept = {p.grad.untyped_storage().data_ptr(): p.grad.untyped_storage().nbytes() for p in network.parameters()}
    n_threads = torch.get_num_threads()
    assert sum(kept.values()) == sum(p.numel() for p in network.parameters()) * 8, n_threads
