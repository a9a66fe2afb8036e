"""Rules on neurons that share their inputs: pairs of a group and an input are dropped and grown, in every storage."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    CHTRule,
    CosineSchedule,
    CubicSchedule,
    GraNetRule,
    GSERule,
    MagnitudePruningRule,
    MESTRule,
    NMRule,
    RigLRule,
    SETRule,
    SRigLRule,
    UnitRule,
    check_layers,
    moments_of,
    update_layer,
)
from psn_lightning.errors import SettingError
from psn_lightning.nn import group_view
from psn_lightning.nn.group_view import GroupView
from psn_lightning.nn.pair_view import PairView, at_group_grain
from psn_lightning.topology import BlockSparse, Connectivity, Exponential, Grouped, ReceptiveField, Uniform
from tests.helpers.layers import random_linear, sparse_linear
from tests.helpers.loops import Loop
from tests.nn.test_grouped import drawn

pytestmark = pytest.mark.filterwarnings("ignore:.*connections of groups", "ignore:.*whole blocks")

RULES = {
    "RigL": RigLRule,
    "SET": SETRule,
    "GMP": lambda: MagnitudePruningRule(0.9),
    "GSE": lambda: GSERule("uniform", 0.5),
    "GraBo": GSERule,
    "RigL, candidates": lambda: RigLRule(1.0),
    "SRigL": SRigLRule,
    "MEST": MESTRule,
    "GraNet": lambda: GraNetRule(0.9),
}
TOPOLOGIES = [
    Grouped(8, Exponential(), neurons="interleaved"),
    Grouped(4, ReceptiveField()),
    Grouped(16, Uniform(), "random"),
    BlockSparse(8),
]


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_two_hundred_steps_are_those_of_masked(rule):
    schedule = CubicSchedule if rule == "GMP" else CosineSchedule
    settings_ = {"schedule": schedule(0.5, 70, 70, 1000), "topology": TOPOLOGIES[0]}
    masked, *others = (Loop(storage, RULES[rule](), **settings_) for storage in ("masked", "csr", "groups"))
    counts = {name: layer.n_connections for name, layer in masked.layers.items()}
    for loop in (masked, *others):
        assert list(loop.train(200).changes) == [70, 140]
    for loop in others:
        assert loop.changes == masked.changes
        for name, layer in masked.layers.items():
            other = loop.layers[name]
            assert other.connectivity == layer.connectivity
            close(other.active_values(), layer.active_values())
            for a, b in zip(moments_of(layer, masked.optimizer), moments_of(other, loop.optimizer), strict=True):
                close(other.compress(b), layer.compress(a))
    for name, layer in masked.layers.items():
        connectivity = layer.connectivity
        assert connectivity.group_size == 8
        assert RULES[rule]().keeps_count == (connectivity.n_connections == counts[name]) or rule == "SRigL"
        assert any(changes[name].dropped for changes in masked.changes.values())


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=repr)
@pytest.mark.parametrize("skip", [True, False])
def test_any_grouped_topology_trains_alike(topology, skip):
    masked, groups = (
        Loop(storage, topology=topology, skip_step_on_update=skip).train(32) for storage in ("masked", "groups")
    )
    assert list(masked.changes) == [10, 20, 30]
    assert masked.changes == groups.changes
    for name, layer in masked.layers.items():
        assert groups.layers[name].connectivity == layer.connectivity
        close(groups.layers[name].active_values(), layer.active_values())


def oracle(weight, gradient, groups, mask, n_drop):
    """RigL of groups by sorting Python lists of pairs; mask of the pairs, shape (n_groups, n_in)."""
    n_groups, n_in = int(groups.max()) + 1, weight.shape[1]
    pairs = [(g, i) for g in range(n_groups) for i in range(n_in)]
    total = {
        kind: {(g, i): float(tensor[groups == g, i].abs().sum()) for g, i in pairs}
        for kind, tensor in (("weight", weight), ("gradient", gradient))
    }
    active = [(g, i) for g, i in pairs if mask[groups == g, i].all()]
    kept = set(sorted(active, key=lambda pair: (-total["weight"][pair], pair))[: len(active) - n_drop])
    absent = sorted((p for p in pairs if p not in kept), key=lambda pair: (-total["gradient"][pair], pair))
    after = torch.zeros(n_groups, n_in, dtype=torch.bool)
    for pair in kept | set(absent[:n_drop]):
        after[pair] = True
    return after


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99), size=st.integers(1, 4), fraction=st.floats(0, 1),
    storage=st.sampled_from(["masked", "csr", "groups"]), at_once=st.sampled_from([1, 2**22]),
)  # fmt: skip
def test_against_the_oracle(seed, size, fraction, storage, at_once):
    connectivity = drawn(4, size, 9, seed)
    if connectivity.n_connections == 0:
        return
    linear = sparse_linear(connectivity, storage, torch.float64, seed)
    linear.view.record_dense_gradient = True
    linear(torch.randn(6, 9).double()).square().sum().backward()
    groups, mask = torch.tensor(connectivity.groups), linear.view.mask.clone()
    weight = torch.zeros(mask.shape, dtype=torch.float64).masked_scatter(mask, linear.view.active_values())
    n_pairs = connectivity.n_connections // size
    expected = oracle(weight, linear.view.dense_gradient(), groups, mask, int(fraction * n_pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_view, "_AT_ONCE", at_once)
        change = update_layer(linear.view, RigLRule(), fraction, None, torch.Generator())
    assert torch.equal(linear.view.mask, expected[groups])
    assert change.grown == change.dropped == int((expected[groups] & ~mask).sum())


def test_a_view_sums_magnitudes_over_the_groups():
    connectivity = drawn(4, 3, 9, seed=1)
    for storage in ("masked", "csr", "groups"):
        linear = sparse_linear(connectivity, storage, torch.float64)
        layer, view = linear.view, at_group_grain(linear.view)
        layer.record_dense_gradient = True
        linear(torch.randn(5, 9).double()).square().sum().backward()
        groups = torch.tensor(connectivity.groups)

        def summed(matrix, groups=groups):
            return torch.zeros(4, *matrix.shape[1:], dtype=matrix.dtype).index_add_(0, groups, matrix.abs())

        assert (view.n_out, view.n_in, view.size) == (4, 9, 3)
        assert view.connectivity == connectivity.grid()
        assert torch.equal(view.active_positions(), torch.tensor(connectivity.grid().keys()))
        assert torch.equal(view.fan_in, view.mask.sum(dim=1))
        close(view.dense_gradient(), summed(layer.dense_gradient()))
        close(view.dense_gradient(slice(1, 3)), summed(layer.dense_gradient())[1:3])
        some = torch.tensor([0, 5, 20, 35])
        close(view.gradient_at(some), summed(layer.dense_gradient()).flatten()[some])
        close(view.gradient_magnitude(), summed(layer.gradient_magnitude()))
        weight = torch.zeros(12, 9, dtype=torch.float64).masked_scatter(layer.mask, layer.active_values())
        close(view.active_values(), summed(weight)[view.mask])
        pairs = torch.arange(len(view.active_positions())).double()
        close(view.compress(view.expand(pairs, view.active_positions())), 3 * pairs)
        view.n_candidates = 5
        assert layer.n_candidates == 15
        with pytest.raises(SettingError, match="first weight"):
            view.set_values(view.active_values())


def test_n_of_m_inputs_of_every_group():
    connectivity = half(16, 4)
    linear = sparse_linear(connectivity, "groups", torch.float64)
    linear.view.record_dense_gradient = True
    linear(torch.randn(5, 16).double()).square().sum().backward()
    update_layer(linear.view, NMRule(RigLRule(), 2, 4), 0.3, None, torch.Generator())
    assert (linear.view.mask.view(16, 4, 4).sum(dim=2) == 2).all()


@pytest.mark.parametrize("rule", ["RigL", "SET", "GraBo"])
def test_a_loop_goes_on_bit_for_bit(rule):
    whole = Loop("groups", RULES[rule](), topology=TOPOLOGIES[0])
    whole.train(25)
    state = copy.deepcopy(whole.state_dict())
    whole.train(20)
    again = Loop("groups", RULES[rule](), topology=TOPOLOGIES[0])
    again.load_state_dict(state)
    again.train(20)
    for a, b in zip(whole.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    states = (loop.optimizer.state_dict()["state"].values() for loop in (whole, again))
    for a, b in zip(*states, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_rules_that_follow_single_neurons_are_refused():
    layers = {"fc1": sparse_linear(drawn()).view}
    with pytest.raises(SettingError, match=r"CHTRule follows single neurons .* fc1"):
        check_layers(layers, CHTRule(chains=[]))
    assert check_layers(layers, RigLRule()) == {"fc1": layers["fc1"].n_connections // 4}


def test_rules_that_compare_layers_are_refused_where_groups_differ():
    layers = {"fc1": sparse_linear(drawn()).view, "fc2": random_linear().view}
    with pytest.raises(SettingError, match=r"GraNetRule compares .* groups of 1, 4"):
        check_layers(layers, GraNetRule(0.9))
    check_layers(layers, UnitRule(RigLRule(), 1))


def test_a_layer_without_groups_is_its_own_view():
    layer = random_linear().view
    assert at_group_grain(layer) is layer
    view = at_group_grain(sparse_linear(drawn()).view)
    assert at_group_grain(view) is view
    assert type(view) is GroupView
    assert type(at_group_grain(sparse_linear(drawn(), "groups").view)) is PairView


def test_masks_that_something_else_has_changed_are_noticed():
    loop = Loop("masked", topology=TOPOLOGIES[0])
    layer = loop.layers["fc1"]
    layer.set_active(layer.active_positions()[1:])
    with pytest.raises(RuntimeError, match="no longer share their inputs"):
        loop.train(12)


def half(n, size):
    """Groups that read every second input."""
    grid = Connectivity.from_mask((torch.arange(n) % 2 == 0).expand(n // size, n).numpy())
    return Connectivity.from_grid(grid, torch.arange(n).numpy() // size)
