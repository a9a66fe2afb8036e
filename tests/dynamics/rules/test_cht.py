"""CHT: counts, whatever percolates; growth by score; final topologies."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    Change,
    CHTRule,
    ConstantSchedule,
    LayerState,
    TopologyUpdater,
    Update,
    update_network,
)
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseMLP, sparse_layers, sparsify
from psn_lightning.topology import Bernoulli, Connectivity, Topology
from tests.dynamics.rules.test_cannistraci_hebb import enumerate_scores, percolate_slowly
from tests.helpers.layers import STORAGES, sparse_linear
from tests.helpers.loops import Loop


def make_chain(widths, density, seed, storage="masked"):
    rng = np.random.default_rng(seed)
    return {
        f"fc{i}": sparse_linear(
            Connectivity.from_mask(rng.random((n_out, n_in)) < density), storage, torch.float64, rng
        ).view
        for i, (n_in, n_out) in enumerate(pairwise(widths))
    }


@settings(max_examples=40)
@given(
    st.lists(st.integers(2, 9), min_size=2, max_size=4),
    st.floats(0.15, 0.7),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from(["CH3-L3p", "CH2-L3n"]),
    st.integers(0, 999),
)
def test_an_update_against_its_definition(widths, density, fraction, score, seed):
    layers = make_chain(widths, density, seed)
    if not all(len(layer.active_positions()) for layer in layers.values()):
        return
    before = {name: layer.mask.numpy().copy() for name, layer in layers.items()}
    weights = {name: layer.parameter.detach().abs().numpy().copy() for name, layer in layers.items()}
    changes = update_network(layers, CHTRule(score), Update(fraction), None, torch.Generator().manual_seed(seed))
    dropped = {}
    for name, mask in before.items():
        order = sorted(np.flatnonzero(mask), key=lambda i, name=name: (-weights[name].flat[i], i))
        dropped[name] = np.zeros_like(mask)
        dropped[name].flat[order[: len(order) - int(fraction * len(order))]] = True
    kept = percolate_slowly(dropped, layers)
    for name, layer in layers.items():
        after, count = layer.mask.numpy(), int(before[name].sum())
        assert after.sum() == count
        if int(fraction * count) == 0 and (kept[name] == before[name]).all():
            assert changes[name] == Change(0, 0, 0.0)
        assert (after >= kept[name]).all()
        scores = enumerate_scores(kept[name], score)
        grown = [s for (u, v), s in scores.items() if after[u, v]]
        left = [s for (u, v), s in scores.items() if not after[u, v]]
        assert min(grown, default=np.inf) >= max(left, default=-np.inf) - 1e-9


@pytest.mark.parametrize("storage", STORAGES)
def test_a_layer_that_grows_what_it_has_dropped_is_final(storage):
    rule = CHTRule(stop_overlap=0.5)
    rule._kept, rule._n_grown = {"fc1": torch.zeros(4), "fc2": torch.zeros(4)}, {"fc1": 6, "fc2": 6}
    rule.after_update({"fc1": Change(2, 2, 0.6), "fc2": Change(4, 4, 0.6)})
    other = CHTRule(stop_overlap=0.5)
    other.load_state_dict(copy.deepcopy(rule.state_dict()))
    loop = Loop(storage, other, ConstantSchedule(0.3, 5, 5, 11))
    masks = loop.masks()
    loop.train(12)
    assert torch.equal(loop.masks()["fc1"], masks["fc1"])
    assert not torch.equal(loop.masks()["fc2"], masks["fc2"])


def test_layers_that_do_not_feed_each_other_need_chains():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(12, 10), "b": torch.nn.Linear(12, 10), "c": torch.nn.Linear(10, 8)}
    )
    sparsify(model, 0.5)
    layers = sparse_layers(model)
    states = {n: LayerState(n, layer.n_out, layer.n_in, 10, 10) for n, layer in layers.items()}
    with pytest.raises(SettingError, match="give chains"):
        CHTRule().check(states)
    CHTRule(chains=[]).check(states)
    CHTRule(chains=[["b", "c"]]).check(states)
    for wrong in ([["a", "d"]], [["b", "b"]], ["bc"]):
        with pytest.raises(SettingError, match="chains has"):
            CHTRule(chains=wrong).check(states)


@pytest.mark.parametrize("widths", [[64, 48, 32, 24, 10], [64, 48, 48, 48, 10]])
def test_a_frozen_layer_of_a_chain_is_left_out(widths):
    network = SparseMLP(widths, Topology(Bernoulli(), 0.9))
    layers = network.sparse_layers()
    layers["fc2"].parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    updater = TopologyUpdater(layers, CHTRule(stop_overlap=1.0), ConstantSchedule(0.3, 1, 0, 5), optimizer)
    before = {name: layer.mask.clone() for name, layer in layers.items()}
    network(torch.randn(8, 64)).sum().backward()
    changes = updater.before_step()
    # fc1 and fc3 do not feed each other: nothing percolates, so exactly the share of the schedule was replaced.
    assert {name: change.contested for name, change in changes.items()} == {
        name: int(0.3 * int(before[name].sum())) / int(before[name].sum()) for name in ("fc1", "fc3")
    }


def test_a_layer_with_too_many_paths_is_told_so():
    with pytest.warns(UserWarning, match="fc1: CH3-L3p sums"):
        CHTRule().check({"fc1": LayerState("fc1", 1024, 784, 400_000, 400_000)})


def test_convolutions_are_percolated_by_channel():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3))
    sparsify(model, 0.9, seed=1)
    layers = sparse_layers(model)
    counts = {name: len(layer.active_positions()) for name, layer in layers.items()}
    update_network(layers, CHTRule("CH2-L3n"), Update(0.5), None, torch.Generator().manual_seed(0))
    assert {name: len(layer.active_positions()) for name, layer in layers.items()} == counts


def test_layers_that_are_too_wide_are_refused():
    with pytest.raises(SettingError, match="8192"):
        CHTRule().check({"fc1": LayerState("fc1", 10, 9000, 10, 10)})


@pytest.mark.parametrize("overlap", [0.0, 1.5])
def test_an_overlap_out_of_range(overlap):
    with pytest.raises(SettingError, match="stop_overlap"):
        CHTRule(stop_overlap=overlap)
