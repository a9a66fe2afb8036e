"""csr within torch.compile and torch.export."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from psn_lightning import sparse_layers, sparsify
from psn_lightning.kernels import operator
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology

ROWS = 12


def fused():
    return SparseMLP([20, 32, 24, 3], Topology(Bernoulli(), sparsity=0.8), storage="csr")


def single():
    model = nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 24, bias=False), nn.Tanh(), nn.Linear(24, 3))
    sparsify(model, 0.7, include=["0", "2"], storage="csr")
    return model


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(model, call, x):
    x = x.clone().requires_grad_()
    model.zero_grad()
    F.cross_entropy(call(x), torch.arange(len(x)) % 3).backward()
    return [x.grad, *(parameter.grad for parameter in model.parameters())]


def move_connections(model):
    for layer in sparse_layers(model).values():
        drawn = torch.randperm(layer.n_out * layer.n_in, generator=torch.Generator().manual_seed(1))
        layer.set_active(drawn[: layer.n_connections].sort().values)


@pytest.mark.parametrize("make", [fused, single])
def test_one_graph_and_the_same_bits_also_after_an_update(make):
    model, x = make(), torch.randn(ROWS, 20)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for _ in range(2):
        for ours, theirs in zip(gradients(compiled, compiled, x), gradients(model, model, x), strict=True):
            assert torch.equal(ours, theirs)
        with torch.no_grad():
            assert torch.equal(compiled(x), model(x))
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for network in (model, compiled):
            move_connections(network)
        with torch.no_grad():
            assert torch.equal(compiled(x), model(x))
        gradients(compiled, compiled, x)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("make", [fused, single])
def test_the_dense_gradient_is_recorded_in_a_compiled_graph(make):
    model, x = make(), torch.randn(ROWS, 20)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for network in (model, compiled):
        for layer in sparse_layers(network).values():
            layer.record_dense_gradient = True
        gradients(network, network, x)
    for ours, theirs in zip(sparse_layers(compiled).values(), sparse_layers(model).values(), strict=True):
        assert torch.equal(ours.dense_gradient(), theirs.dense_gradient())


def test_activations_that_were_given_up_are_computed_again(monkeypatch):
    monkeypatch.setattr(operator, "_KEPT", 1)
    model, x = single(), torch.randn(ROWS, 20)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(gradients(compiled, compiled, x), gradients(model, model, x), strict=True):
        assert torch.equal(ours, theirs)


def test_the_rules_of_an_operator():
    model, x = single(), torch.randn(ROWS, 20)
    layer = model[0]
    arguments = (x.requires_grad_(), [layer.weight, layer.bias], layer._stack._number)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator._stack, (*arguments, True), test_utils=checks)


def test_a_copy_has_a_number_of_its_own_and_a_lost_stack_is_forgotten():
    layer = single()[0]
    other = copy.deepcopy(layer)
    assert other._stack._number != layer._stack._number
    assert operator._stacks[other._stack._number] is other._stack
    number = other._stack._number
    del other
    gc.collect()
    assert number not in operator._stacks


def test_passes_that_wait_are_freed_with_their_stack():
    layer = single()[0]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    kept = [compiled(torch.randn(ROWS, 20)) for _ in range(3)]
    assert len(layer._stack.waiting) == len(kept)
    workspace = weakref.ref(next(iter(layer._stack.waiting.values())).lease.workspace)
    assert not copy.deepcopy(layer)._stack.waiting
    del layer, compiled, kept
    torch._dynamo.reset()
    gc.collect()
    assert workspace() is None


def test_a_parameter_of_another_layout_is_read_by_both_passes():
    model, x = fused(), torch.randn(ROWS, 20)
    model.output.weight.data = model.output.weight.data.T.contiguous().T
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(gradients(compiled, compiled, x), gradients(model, model, x), strict=True):
        assert torch.equal(ours, theirs)


def blocked():
    model = nn.Sequential(nn.Linear(600, 520))
    sparsify(model, 0.9, storage="csr")
    assert min(model[0].structure.blocks) > 1
    return model


@pytest.mark.parametrize("make", [fused, single, blocked])
def test_export_needs_no_operator_of_ours(make):
    model = make()
    x = torch.randn(ROWS, next(iter(sparse_layers(model).values())).n_in)
    move_connections(model)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    assert "psn_lightning" not in program.graph_module.code
    torch.testing.assert_close(program.module()(x[:5]), model(x[:5]))
