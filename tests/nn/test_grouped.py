"""The layer of storage groups against dense autograd, and against the other storages."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import moments_of
from psn_lightning.errors import SettingError
from psn_lightning.nn import (
    SparseMLP,
    densify,
    describe,
    group_buckets,
    group_structure,
    sparse_layers,
    sparsify,
    storages,
)
from psn_lightning.nn.grouped import GroupedLinear
from psn_lightning.nn.sharing import expand_pairs, find_pairs, list_neurons
from psn_lightning.topology import Bernoulli, BlockSparse, Connectivity, Exponential, Grouped, LayerBudget, Topology
from tests.helpers.layers import sparse_linear

pytestmark = pytest.mark.filterwarnings("ignore:.*connections of groups")  # small layers, on purpose

TOLERANCE = {
    torch.float64: {"atol": 1e-11, "rtol": 1e-11},
    torch.float32: {"atol": 1e-3, "rtol": 1e-4},
    torch.bfloat16: {"atol": 0.3, "rtol": 0.05},
}


def drawn(n_groups=5, size=4, n_in=13, seed=0, interleaved=True):
    """Connections of groups with any number of inputs, also none."""
    rng = np.random.default_rng(seed)
    density = rng.random((n_groups, 1)) * (rng.random((n_groups, 1)) > 0.2)
    grid = Connectivity.from_mask(rng.random((n_groups, n_in)) < density)
    rows = np.repeat(np.arange(n_groups), size)
    return Connectivity.from_grid(grid, rng.permutation(rows) if interleaved else rows)


def grouped(connectivity, dtype=torch.float64, bias=True):
    torch.manual_seed(1)
    values = torch.randn(connectivity.n_connections, dtype=dtype)
    return GroupedLinear(connectivity, values, torch.randn(connectivity.n_out, dtype=dtype) if bias else None)


def pad(layer, padded, patch):
    """Let a layer compute groups of similar fan-in by one product, as on accelerators, or not."""
    patch.setattr(group_buckets, "PADDED_ON", {"cpu"} if padded else set())
    layer.structure.set_pairs(layer.structure.pairs)


def dense_of(layer):
    weight = torch.zeros(layer.n_out * layer.n_in, dtype=layer.weight.dtype)
    weight[layer.active_positions()] = layer.active_values()
    return weight.view(layer.n_out, layer.n_in).requires_grad_()


@settings(max_examples=60, deadline=None)
@given(
    n_groups=st.integers(1, 9),
    size=st.integers(1, 6),
    n_in=st.integers(1, 40),
    rows=st.integers(1, 20),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(list(TOLERANCE)),
    bias=st.booleans(),
    interleaved=st.booleans(),
    padded=st.booleans(),
)
def test_values_and_gradients_are_those_of_dense_autograd(
    n_groups, size, n_in, rows, seed, dtype, bias, interleaved, padded
):
    connectivity = drawn(n_groups, size, n_in, seed, interleaved)
    layer = grouped(connectivity, dtype, bias)
    with pytest.MonkeyPatch.context() as patch:
        pad(layer, padded, patch)
        weight, b = dense_of(layer), layer.bias.detach().clone().requires_grad_() if bias else None
        x = torch.randn(rows, n_in, dtype=dtype, requires_grad=True)
        g, inputs = torch.randn(rows, layer.n_out, dtype=dtype), x.detach().clone().requires_grad_()
        expected, y = F.linear(inputs, weight, b), layer(x)
        expected.backward(g)
        y.backward(g)
    pairs = [(y, expected), (x.grad, inputs.grad)]
    pairs.append((layer.compress(layer.weight.grad), weight.grad.flatten()[layer.active_positions()]))
    for ours, theirs in [*pairs, *([(layer.bias.grad, b.grad)] if bias else [])]:
        torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_of_gradients(padded, compiled, monkeypatch):
    layer = grouped(drawn(4, 3, 6, seed=2))
    pad(layer, padded, monkeypatch)
    if compiled:  # the operator of compiled graphs, without a compiler
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    arguments = [tensor.detach().clone().requires_grad_() for tensor in (torch.randn(3, 6).double(), layer.weight)]

    def run(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, arguments)
    assert torch.autograd.gradgradcheck(run, arguments)


def test_a_compiled_layer_stays_in_one_graph_and_follows_updates():
    layer = grouped(drawn(6, 4, 20, seed=1), torch.float32)
    network = torch.nn.Sequential(layer, torch.nn.ReLU())
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        x = torch.randn(7, 20)
        found = []
        for run in (network, compiled):
            network.zero_grad()
            run(x).square().sum().backward()
            found.append((run(x).detach(), layer.weight.grad))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        pairs = torch.randperm(6 * 20)[: layer.structure.n_pairs - 3].sort().values
        layer.set_pairs(pairs)


def test_an_exported_layer_needs_no_operator_of_ours():
    layer = grouped(drawn(), torch.float32)
    x = torch.randn(3, 13)
    program = torch.export.export(layer, (x,))
    assert "psn_lightning" not in str(program.graph)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize("shape", [(13,), (2, 13), (2, 3, 13), (0, 13), (2, 0, 13)])
def test_any_number_of_dimensions_and_empty_batches(shape):
    layer = grouped(drawn())
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.linear(x, dense_of(layer), layer.bias))


def test_infinite_inputs_reach_the_groups_that_read_them_alone(monkeypatch):
    layer = grouped(drawn(seed=4), torch.float32)
    x = torch.ones(1, 13)
    x[0, 3] = torch.inf
    reads = layer.mask[:, 3]
    assert 0 < reads.sum() < len(reads)
    for padded in (False, True):
        pad(layer, padded, monkeypatch)
        assert torch.equal(~layer(x)[0].isfinite(), reads)


def test_autocast_is_that_of_a_linear():
    layer = grouped(drawn(), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(3, 13))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == torch.float32


def test_activations_stay_feature_major():
    layer = grouped(drawn())
    y = layer(torch.randn(6, 13, dtype=torch.float64))
    assert y.T.is_contiguous()
    assert torch.relu(y).T.is_contiguous()


@given(seed=st.integers(0, 99), size=st.integers(1, 4))
def test_pairs_are_found_where_neurons_share(seed, size):
    connectivity = drawn(4, size, 9, seed)
    groups, positions = torch.tensor(connectivity.groups), torch.tensor(connectivity.keys())
    pairs = find_pairs(positions, groups, 9)
    assert torch.equal(pairs, torch.tensor(connectivity.grid().keys()))
    assert torch.equal(expand_pairs(pairs, list_neurons(groups), 9).flatten().sort().values, positions)
    if size > 1 and len(positions):
        assert find_pairs(positions[1:], groups, 9) is None


@given(seed=st.integers(0, 99))
def test_weights_moments_and_gradients_move_as_in_a_masked_layer(seed):
    connectivity, after = drawn(seed=seed), drawn(seed=seed + 1)
    after = Connectivity.from_grid(after.grid(), connectivity.groups)
    layers = [sparse_linear(connectivity, storage, torch.float64, seed=1) for storage in ("groups", "masked")]
    found = []
    for linear in layers:
        optimizer = torch.optim.Adam(linear.module.parameters())
        linear.module(torch.ones(2, 13).double()).square().sum().backward()
        optimizer.step()
        moments = moments_of(linear.view, optimizer)
        stayed = linear.view.set_active(torch.tensor(after.keys()), moments)
        found.append((stayed, linear.view.active_values(), *(linear.view.compress(moment) for moment in moments)))
        assert linear.view.connectivity == after
        back = linear.view.expand(linear.view.compress(moments[0]), linear.view.active_positions())
        assert torch.equal(back, moments[0])
    assert found[0][0] == found[1][0]
    for ours, theirs in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_connections_that_break_a_group_are_refused_and_change_nothing():
    layer = grouped(drawn())
    before = layer.active_positions()
    with pytest.raises(ValueError, match="differ within a group"):
        layer.set_active(before[1:])
    assert torch.equal(layer.active_positions(), before)
    masked = sparse_linear(layer.connectivity)
    csr = sparse_linear(layer.connectivity, "csr")
    for linear in (masked, csr):  # go on without groups
        linear.view.set_active(before[1:])
        assert linear.view.groups is None
        assert linear.view.connectivity.groups is None


def test_a_topology_without_groups_is_refused():
    with pytest.raises(SettingError, match="fc1, fc2 does not make"):
        SparseMLP([8, 8, 8, 2], Topology(Bernoulli(), 0.5), storage="groups")
    with pytest.raises(SettingError, match="head"):
        sparsify(torch.nn.ModuleDict({"head": torch.nn.Linear(8, 8)}), 0.5, storage="groups")
    attention = torch.nn.ModuleDict({"attention": torch.nn.MultiheadAttention(8, 2)})
    with pytest.raises(SettingError, match="attention"):
        sparsify(attention, 0.5, Grouped(4), storage="groups")


@pytest.mark.parametrize("storage", ["masked", "csr", "groups"])
@pytest.mark.parametrize("other", ["masked", "csr", "groups"])
def test_state_dicts_interchange(storage, other):
    first, second = drawn(seed=1), drawn(seed=2)
    source, target = sparse_linear(first, storage, seed=1), sparse_linear(second, other, seed=2)
    state = source.module.state_dict()
    target.module.load_state_dict(copy.deepcopy(state))
    assert target.view.connectivity == source.view.connectivity == first
    assert torch.equal(target.view.active_values(), source.view.active_values())
    again = copy.deepcopy(target.module)
    assert again.state_dict().keys() == target.module.state_dict().keys()
    x = torch.randn(3, 13)
    torch.testing.assert_close(again(x), source(x))


def test_states_without_groups_take_those_of_the_layer_where_they_fit():
    connectivity, other = drawn(seed=1), drawn(seed=2)
    same = Connectivity.from_grid(other.grid(), connectivity.groups)
    for storage in ("masked", "csr"):
        for target in ("masked", "csr", "groups"):
            linear = sparse_linear(connectivity, target)
            linear.module.load_state_dict(sparse_linear(same.with_groups(None), storage).module.state_dict())
            assert linear.view.connectivity == same
            unshared = Connectivity.from_mask(np.random.default_rng(0).random((20, 13)) < 0.5)
            state = sparse_linear(unshared, storage).module.state_dict()
            if target == "groups":
                with pytest.raises(RuntimeError, match="share their inputs"):
                    linear.module.load_state_dict(state)
            else:
                linear.module.load_state_dict(state)
                assert linear.view.connectivity == unshared


def test_a_dense_state_gives_the_present_connections_their_weights():
    layer = grouped(drawn(), torch.float32)
    dense = torch.nn.Linear(13, 20)
    layer.load_state_dict(dense.state_dict())
    assert torch.equal(layer.active_values(), dense.weight.flatten()[layer.active_positions()])


def test_any_module_gets_the_storage_and_loses_it():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(24, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
    table = sparsify(model, 0.75, Grouped(8, Exponential(), neurons="interleaved"), storage="groups")
    assert {row.storage for row in table} == {"groups"}
    assert describe(model) == table
    assert {layer.groups is not None for layer in sparse_layers(model).values()} == {True}
    x = torch.randn(4, 24)
    expected = model(x)
    torch.testing.assert_close(densify(model)(x), expected)
    assert type(model[0]) is torch.nn.Linear


def test_recorded_gradients_are_those_of_a_masked_layer():
    connectivity = drawn(seed=3)
    masked, ours = (sparse_linear(connectivity, storage, torch.float64, 1) for storage in ("masked", "groups"))
    for linear in (masked, ours):
        linear.view.record_dense_gradient = True
        torch.manual_seed(2)
        for rows in (5, 3):
            linear(torch.randn(rows, 13).double()).square().sum().backward()
    torch.testing.assert_close(ours.view.dense_gradient(), masked.view.dense_gradient())
    some = torch.tensor([3, 1, 7])
    torch.testing.assert_close(ours.view.dense_gradient(some), masked.view.dense_gradient()[some])
    positions = torch.arange(0, 260, 7)
    torch.testing.assert_close(ours.view.gradient_at(positions), masked.view.gradient_at(positions))
    masked.view.mask_gradient()
    torch.testing.assert_close(ours.view.gradient_magnitude(), masked.view.gradient_magnitude())


def test_auto_takes_csr_before_groups_and_groups_before_masked(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    layers = {"fc1": BlockSparse(16).connect(LayerBudget(256, 256, 0.875), np.random.default_rng(0))}
    assert storages.resolve_storage("auto", 0.9, layers=layers) == "csr"
    monkeypatch.setattr(storages, "find_spec", lambda name: None)
    assert storages.resolve_storage("auto", 0.9, layers=layers) == "groups"
    assert storages.resolve_storage("auto", 0.9, (64, 64), layers) == "masked"
    assert storages.resolve_storage("auto", 0.5, layers=layers) == "masked"


def test_auto_takes_groups_on_accelerators_that_the_table_has(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    layers = {"fc1": BlockSparse(16).connect(LayerBudget(256, 256, 0.875), np.random.default_rng(0))}
    assert storages.resolve_storage("auto", 0.9, layers=layers) == "masked"
    monkeypatch.setitem(storages.GROUPS_WIN, "cuda", (16, 0.8))
    assert storages.resolve_storage("auto", 0.9, layers=layers) == "groups"
    assert storages.resolve_storage("auto", 0.7, layers=layers) == "masked"


def test_the_grouped_product_of_torch_is_the_same_product():
    """It is chosen on CUDA only; elsewhere torch computes it group by group."""
    layer = grouped(drawn(4, 8, 13, seed=1, interleaved=False), torch.bfloat16)
    structure = layer.structure
    if not hasattr(F, "grouped_mm") or structure.buckets.has_empty:
        pytest.skip("this torch has no grouped product")
    x, y = torch.randn(13, 16).bfloat16(), torch.randn(32, 16).bfloat16()
    w = layer.weight.detach().view(-1, 8)
    plain = [structure.solve(kind, *factors) for kind, factors in (("w", (x, y)), ("x", (w, y)), ("y", (w, x)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_structure, "fits_grouped_mm", lambda *_: True)
        fast = [structure.solve(kind, *factors) for kind, factors in (("w", (x, y)), ("x", (w, y)), ("y", (w, x)))]
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, atol=0.1, rtol=0.02)
