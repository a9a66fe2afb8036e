"""`sparsify` on any module: exact counts, patterns, storages; `densify` leaves a plain module."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from psn_lightning import (
    Bernoulli,
    BlockSparse,
    Dendritic,
    Diagonals,
    Exponential,
    LayerSettings,
    Lognormal,
    Orthogonal,
    ReceptiveField,
    ScaleFree,
    SmallWorld,
    SparseMLP,
    Topology,
    Uniform,
)
from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.nn import densify, describe, sparse_layers, sparsify
from tests.helpers.models import TwoLayerTransformer


def mixed():
    """One of each kind of layer."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "linear": nn.Linear(30, 20),
            "conv1": nn.Conv1d(4, 6, 3),
            "conv2": nn.Conv2d(8, 12, 3, groups=4),
            "conv3": nn.Conv3d(2, 4, 3, bias=False),
            "attention": nn.MultiheadAttention(16, 4),
            "other_keys": nn.MultiheadAttention(16, 4, kdim=12, vdim=10),
            "norm": nn.LayerNorm(20),
            "embedding": nn.Embedding(50, 16),
        }
    )


LAYERS = [
    "linear", "conv1", "conv2", "conv3", "attention.in_proj_weight", "attention.out_proj",
    "other_keys.q_proj_weight", "other_keys.k_proj_weight", "other_keys.v_proj_weight", "other_keys.out_proj",
]  # fmt: skip


def total(module):
    layers = sparse_layers(module).values()
    return sum(layer.n_out * layer.n_in for layer in layers), sum(len(layer.active_positions()) for layer in layers)


def test_every_kind_of_layer_is_found_and_seen_as_a_matrix():
    module = mixed()
    sparsify(module, 0.5)
    layers = sparse_layers(module)
    assert list(layers) == LAYERS
    assert (layers["conv2"].n_out, layers["conv2"].n_in) == (12, 2 * 9)
    assert (layers["attention.in_proj_weight"].n_out, layers["attention.in_proj_weight"].n_in) == (48, 16)
    for layer in layers.values():
        assert layer.connectivity.n_connections == int((layer.parameter != 0).sum())
        assert torch.equal(layer.mask, layer.parameter.flatten(1) != 0)


TOPOLOGIES = [
    Uniform(), Bernoulli(), Exponential(), Lognormal(0.2), ReceptiveField(degree=Lognormal(0.2)), SmallWorld(),
    ScaleFree(), Dendritic(), Orthogonal(), Diagonals(),
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    sparsity=st.floats(0, 0.9),
    allocation=st.sampled_from(["uniform", "er", "erk"]),
    topology=st.sampled_from(TOPOLOGIES),
    seed=st.integers(0, 99),
)
def test_the_budget_is_met_to_the_connection(sparsity, allocation, topology, seed):
    module = nn.Sequential(nn.Linear(40, 60), nn.Conv2d(6, 30, 3), nn.Conv1d(20, 24, 5))
    try:
        planned = sparsify(copy.deepcopy(module), sparsity, topology, allocation, seed=seed, dry_run=True)
    except UnreachableError:  # a CCV that so dense a layer cannot have
        reject()
    table = sparsify(module, sparsity, topology, allocation, seed=seed)
    positions, connections = total(module)
    assert connections == round((1 - sparsity) * positions) == sum(row.connections for row in table)
    assert [(r.name, r.connections, r.ccv) for r in planned] == [(r.name, r.connections, r.ccv) for r in table]
    assert [(r.name, r.connections, r.ccv) for r in describe(module)] == [(r.name, r.connections, r.ccv) for r in table]
    assert all(int(layer.fan_in.min()) >= 1 for layer in sparse_layers(module).values())


def test_erk_densities_follow_the_kernels():
    """ε · Σ dims / Π dims, with layers above 1 dense and the others solved again (Evci et al., 2020)."""
    module = torchvision.models.resnet18()
    table = sparsify(module, 0.9, allocation="erk", dry_run=True)
    scores = {row.name: sum(row.shape) / np.prod(row.shape) for row in table}
    dense = {row.name for row in table if row.density == 1}
    assert dense == {"conv1", "layer2.0.downsample.0", "layer3.0.downsample.0"}
    ratios = [row.density / scores[row.name] for row in table if row.name not in dense]
    assert max(ratios) / min(ratios) < 1.001


def test_a_family_that_small_layers_cannot_have_is_refused_with_all_of_them_but_not_where_they_are_dense():
    module = torchvision.models.resnet18()
    with pytest.raises(SettingError, match=r"layer4\.0\.downsample\.0"):
        sparsify(module, 0.9, Lognormal(1.0))
    table = sparsify(module, 0.9, Lognormal(1.0), exclude=["layer4.0.downsample.0"])
    assert table["conv1"].density == 1
    assert all(row.ccv == pytest.approx(1.0, abs=0.02) for row in table if row.density < 1)


def test_a_dry_run_changes_nothing():
    module = mixed()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    sparsify(module, 0.5, dry_run=True)
    assert list(module.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_weights_that_stay_keep_their_value_or_are_drawn_anew():
    kept, drawn = mixed(), mixed()
    before = {name: value.clone() for name, value in kept.named_parameters()}
    sparsify(kept, 0.5)
    for name, layer in sparse_layers(kept).items():
        key = name if name in before else f"{name}.weight"
        assert torch.equal(layer.active_values(), before[key].flatten()[layer.active_positions()])
    sparsify(drawn, 0.5, init="mean_fan_in")
    for name, layer in sparse_layers(drawn).items():
        assert torch.equal(layer.active_positions(), sparse_layers(kept)[name].active_positions())
    linear = sparse_layers(drawn)["linear"]
    assert not torch.equal(linear.active_values(), sparse_layers(kept)["linear"].active_values())
    assert float(linear.active_values().std()) == pytest.approx((2 / 15) ** 0.5, rel=0.25)


def test_patterns_include_exclude_and_override():
    module = TwoLayerTransformer()
    overrides = {"*.linear1": LayerSettings(sparsity=0.5, topology=Exponential()), "*.layers.0.*": LayerSettings(0.75)}
    table = sparsify(module, 0.8, include=["encoder.*"], exclude=["*.out_proj"], overrides=overrides)
    assert {row.name.rsplit(".", 1)[1] for row in table} == {"in_proj_weight", "linear1", "linear2"}
    assert all(table[f"encoder.layers.{i}.linear1"].density == 0.5 for i in (0, 1))
    assert table["encoder.layers.0.linear1"].ccv > 0.3
    assert table["encoder.layers.0.linear2"].density == 0.25
    rest = [table[f"encoder.layers.1.{name}"] for name in ("self_attn.in_proj_weight", "linear2")]
    assert sum(row.connections for row in rest) == round(0.2 * sum(row.positions for row in rest))


def test_any_parameter_can_be_named():
    module = mixed()
    table = sparsify(module, 0.5, include=["embedding.weight", "linear.weight"])
    assert [row.name for row in table] == ["linear", "embedding"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"include": ["blocks.*"]}, r"include .*'blocks\.\*'"),
        ({"exclude": ["head"]}, "exclude .*'head'"),
        ({"exclude": ["*"]}, "ModuleDict"),
        ({"overrides": {"hea*": LayerSettings(0.5)}}, r"overrides .*'hea\*'"),
        ({"sparsity": 1.0}, "sparsity 1.0"),
        ({"storage": "coo"}, "storage 'coo'"),
        ({"storage": "csr"}, "conv1 .*storage csr"),
        ({"include": ["attention.*"], "storage": "csr"}, "attention.in_proj_weight .*storage csr"),
        ({"sparsity": 0.99, "allocation": "uniform"}, "sparsity 0.99"),
        ({"sparsity": 0.9999, "allocation": "uniform"}, r"sparsity 0\.9999 .*linear \(20 × 30\)"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_nothing_has_changed(arguments, message):
    module = mixed()
    keys = list(module.state_dict())
    with pytest.raises(SettingError, match=message):
        sparsify(module, **{"sparsity": 0.5, **arguments})
    assert list(module.state_dict()) == keys


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda linear: parametrizations.weight_norm(linear), r"0: weight .*\(_WeightNorm\)"),
        (lambda linear: prune.random_unstructured(linear, "weight", 0.5), "0: weight"),
        (lambda linear: sparsify(nn.ModuleList([linear])), "0 is sparse"),
    ],
)
def test_weights_that_are_computed_or_sparse_already_are_refused(spoil, message):
    module = nn.Sequential(nn.Linear(10, 10))
    spoil(module[0])
    with pytest.raises(SettingError, match=message):
        sparsify(module, 0.5)


def test_a_lazy_layer_is_refused():
    with pytest.raises(SettingError, match="0: weight"):
        sparsify(nn.Sequential(nn.LazyLinear(10)), 0.5)


def test_a_weight_that_two_modules_share_has_one_mask():
    module = nn.ModuleDict({"embedding": nn.Embedding(30, 16), "body": nn.Linear(16, 16), "head": nn.Linear(16, 30)})
    module["head"].weight = module["embedding"].weight
    sparsify(module, 0.5)
    assert list(sparse_layers(module)) == ["body", "head"]
    assert module["embedding"].weight is module["head"].weight
    assert int((module["embedding"].weight != 0).sum()) == sparse_layers(module)["head"].connectivity.n_connections
    with pytest.raises(SettingError, match=r"head .*storage csr"):
        sparsify(densify(module), 0.5, storage="csr")


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_densify_leaves_a_plain_module_that_computes_the_same(storage):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5, bias=False))
    keys = list(module.state_dict())
    sparsify(module, 0.7, storage=storage)
    x = torch.randn(4, 20)
    y = module(x)
    assert densify(module) is module
    assert [type(m) for m in module] == [nn.Linear, nn.ReLU, nn.Linear]
    assert list(module.state_dict()) == keys
    torch.testing.assert_close(module(x), y)
    assert sparse_layers(module) == {}
    assert not any(vars(m).get("_sparse_layers") or m._load_state_dict_pre_hooks for m in module.modules())
    module(x).sum().backward()
    assert module[0].weight.grad.count_nonzero() > 0.9 * module[0].weight.numel() - 20 * 15  # dense again
    sparsify(module, 0.5)


def test_densify_of_the_mlp():
    network = SparseMLP([20, 16, 12, 3], Topology(Bernoulli(), 0.7), storage="csr")
    x = torch.randn(5, 20)
    y = network(x)
    torch.testing.assert_close(densify(network)(x), y)
    assert not network.fused


def test_a_copy_has_masks_of_its_own():
    module = nn.Sequential(nn.Linear(20, 30))
    sparsify(module, 0.5)
    copied = copy.deepcopy(module)
    layer, original = sparse_layers(copied)["0"], sparse_layers(module)["0"]
    layer.set_active(torch.arange(10))
    assert original.connectivity.n_connections == 300
    copied(torch.randn(3, 20)).sum().backward()
    assert not copied[0].weight.grad[~layer.mask].any()


def test_dense_weights_load_before_and_after():
    torch.manual_seed(2)
    pretrained = nn.Sequential(nn.Linear(20, 30), nn.Conv2d(3, 4, 3)).state_dict()
    before, after = (nn.Sequential(nn.Linear(20, 30), nn.Conv2d(3, 4, 3)) for _ in range(2))
    before.load_state_dict(pretrained)
    sparsify(before, 0.5)
    sparsify(after, 0.5)
    after.load_state_dict(pretrained)
    for key, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[key])


def test_the_mlp_is_the_same_as_sparsify_on_a_sequential():
    """Bit for bit, over ten steps of Adam."""
    sizes = [20, 32, 24, 3]
    ours = SparseMLP(sizes, Topology(Uniform(), 0.8, "erk"), seed=7)
    modules = []
    for n_in, n_out in pairwise(sizes[:-1]):
        modules += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ReLU()]
    theirs = nn.Sequential(*modules, nn.Linear(sizes[-2], sizes[-1]))
    for module in theirs:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    theirs[-1].load_state_dict(ours.output.state_dict())
    sparsify(theirs, 0.8, Uniform(), "erk", exclude=["6"], init="mean_fan_in", seed=7)
    x, y = torch.randn(40, 20), torch.randint(3, (40,))
    for network in (ours, theirs):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_auto_keeps_convolutions_masked_and_makes_sparse_linears_csr():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 512), nn.ReLU(), nn.Linear(512, 20))
    table = sparsify(module, 0.95, storage="auto", overrides={"2": LayerSettings(0.9), "4": LayerSettings(0.9)})
    assert [row.storage for row in table] == ["masked", "csr", "masked"]  # the last one is too small to gain
    module(torch.randn(2, 3, 8, 8)).sum().backward()


def test_channels_last_changes_nothing():
    module = nn.Sequential(nn.Conv2d(4, 8, 3))
    sparsify(module, 0.5)
    before = sparse_layers(module)["0"].active_positions(), sparse_layers(module)["0"].active_values()
    module.to(memory_format=torch.channels_last)
    layer = sparse_layers(module)["0"]
    assert torch.equal(layer.active_positions(), before[0])
    assert torch.equal(layer.active_values(), before[1])
    module(torch.randn(2, 4, 5, 5)).sum().backward()
    layer.set_active(torch.arange(0, 8 * 36, 3))
    assert torch.equal(layer.active_positions(), torch.arange(0, 8 * 36, 3))


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_what_is_trained_and_the_mode_stay(storage):
    module = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 30)).eval()
    module[0].bias.requires_grad_(False)
    module[1].weight.requires_grad_(False)
    expected = [(p.requires_grad, m.training) for m in module for p in m.parameters()]
    sparsify(module, 0.5, storage=storage)
    found = [(getattr(m, name).requires_grad, m.training) for m in module for name in ("weight", "bias")]
    assert found == expected
    densify(module)
    assert [(p.requires_grad, m.training) for m in module for p in m.parameters()] == expected


@pytest.mark.parametrize("first", ["head", "embedding"])
def test_dense_weights_of_a_shared_layer_load_sparse_whoever_comes_last(first):
    modules = {"head": nn.Linear(16, 30, bias=False), "embedding": nn.Embedding(30, 16)}
    module = nn.ModuleDict({name: modules[name] for name in sorted(modules, key=lambda name: name != first)})
    module["embedding"].weight = module["head"].weight
    dense = {key: torch.randn_like(value) for key, value in module.state_dict().items()}
    dense["embedding.weight"] = dense["head.weight"]
    sparsify(module, 0.5)
    module.load_state_dict(dense, strict=False)
    layer = sparse_layers(module)["head"]
    assert not module["embedding"].weight[~layer.mask].any()
    densify(module)
    module.load_state_dict(dense)
    assert torch.equal(module["embedding"].weight, dense["head.weight"])


def test_parameters_that_are_assigned_are_masked():
    module = nn.Sequential(nn.Linear(20, 30))
    sparsify(module, 0.5)
    module.load_state_dict({key: value.clone() for key, value in module.state_dict().items()}, assign=True)
    module(torch.randn(4, 20)).sum().backward()
    assert not module[0].weight.grad[~sparse_layers(module)["0"].mask].any()


def test_a_part_of_a_state_dict_loads_into_csr():
    module = nn.Sequential(nn.Linear(20, 30))
    sparsify(module, 0.5, storage="csr")
    weight, bias = torch.randn(30, 20), module[0].bias.detach().clone()
    missing = module.load_state_dict({"0.weight": weight}, strict=False)
    assert missing.missing_keys == ["0.bias"]
    assert torch.equal(module[0].weight, weight.flatten()[module[0].active_positions()])
    assert torch.equal(module[0].bias, bias)


# --- wirings


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_weights_of_a_wiring_replace_those_of_the_module(storage):
    module = nn.Sequential(nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 50)).double()
    sparsify(module, 0.9, Orthogonal(1.0), "uniform", storage=storage)
    for layer in sparse_layers(module).values():
        weight = torch.zeros(layer.n_out * layer.n_in, dtype=torch.float64)
        weight[layer.active_positions()] = layer.active_values()
        singular = torch.linalg.svdvals(weight.view(layer.n_out, layer.n_in))
        assert torch.allclose(singular, torch.ones_like(singular), atol=1e-12, rtol=0)


def test_a_layer_of_blocks_computes_a_sum_over_blocks():
    linear = nn.Linear(32, 48, dtype=torch.float64)
    sparsify(linear, 0.75, BlockSparse(8))
    x = torch.randn(5, 32, dtype=torch.float64)
    expected = linear.bias.repeat(5, 1)
    blocks = linear.weight.view(6, 8, 4, 8)
    present = [(i, j) for i in range(6) for j in range(4) if (blocks[i, :, j] != 0).all()]
    assert len(present) == 6
    for i, j in present:
        expected[:, 8 * i : 8 * i + 8] += x[:, 8 * j : 8 * j + 8] @ blocks[i, :, j].T
    assert torch.allclose(linear(x), expected)


def test_settings_that_no_layer_would_heed_are_refused_and_the_module_left_alone():
    module = nn.Sequential(nn.Linear(60, 40), nn.Linear(40, 50))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(SettingError, match="spreading even has no effect on Dendritic"):
        sparsify(module, 0.9, Dendritic(), spreading="even")
    with pytest.raises(SettingError, match="init linear has no effect"):
        sparsify(module, 0.9, Orthogonal(), init="linear")
    with pytest.raises(UnreachableError, match=r"do not divide 0, 60 inputs and 40 neurons.*do not divide 1"):
        sparsify(module, 0.9, BlockSparse(7))
    assert list(module.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_family_beside_a_wiring_heeds_spreading_and_init():
    module = nn.Sequential(nn.Linear(60, 40), nn.Linear(40, 50))
    overrides = {"1": LayerSettings(topology=Orthogonal(1.0), sparsity=0.8)}
    sparsify(module, 0.9, Uniform(), overrides=overrides, spreading="sequential", init="per_neuron")
    first, second = sparse_layers(module).values()
    assert int(first.connectivity.indices.max()) == 5
    assert torch.allclose(torch.linalg.svdvals(module[1].weight), torch.ones(40), atol=1e-5)
    assert second.connectivity.n_connections == 400


def test_kernels_are_wired_as_matrices():
    for topology in (ReceptiveField(), SmallWorld(), ScaleFree(), Dendritic(), Orthogonal(1.0), Diagonals()):
        conv = nn.Conv2d(8, 12, 3)
        sparsify(conv, 0.8, topology)
        (layer,) = sparse_layers(conv).values()
        assert layer.connectivity.n_connections == round(0.2 * 12 * 72)
        assert conv(torch.randn(1, 8, 5, 5)).shape == (1, 12, 3, 3)
