"""GSE, and RigL and SET with drawn candidates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from psn_lightning.dynamics import (
    CosineSchedule,
    GSERule,
    LayerState,
    MESTRule,
    NMRule,
    RigLRule,
    SETRule,
    check_layers,
    update_layer,
)
from psn_lightning.errors import SettingError
from psn_lightning.nn import sparse_layers, sparsify
from psn_lightning.paper.variant_updater import RigLVariantRule
from psn_lightning.topology import Connectivity
from tests.dynamics.test_engine import step_with_dense_gradient
from tests.helpers.layers import STORAGES, random_linear, sparse_linear
from tests.helpers.loops import Loop

DISTRIBUTIONS = ["uniform", "grabo", "graest"]


def prepared(density=0.2, seed=0, storage="masked", n_in=23, n_out=17):
    linear = random_linear(n_in, n_out, density, seed, storage, torch.float64)
    linear.view.record_activity(True)
    step_with_dense_gradient(DoubleInput(linear), torch.optim.SGD(linear.module.parameters(), lr=0.1), seed)
    return linear.view


class DoubleInput:
    """A Linear that takes float32."""

    def __init__(self, linear):
        self.view, self._linear = linear.view, linear

    def __call__(self, x):
        return self._linear(x.double())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Seen:
    """Mixin of a rule that keeps what it has drawn."""

    def draw_candidates(self, pool, count, generator):
        self.drawn = super().draw_candidates(pool, count, generator)
        return self.drawn


class SeenGSE(Seen, GSERule):
    pass


class SeenRigL(Seen, RigLRule):
    pass


@given(
    density=st.floats(0.05, 0.95), fraction=st.floats(0, 1), candidates=st.floats(0.1, 3), seed=st.integers(0, 99),
    distribution=st.sampled_from(DISTRIBUTIONS), storage=st.sampled_from(STORAGES),
)  # fmt: skip
def test_the_largest_gradients_that_were_drawn_come(density, fraction, candidates, seed, distribution, storage):
    layer = prepared(density, seed, storage)
    before, weight = layer.active_positions().tolist(), layer.active_values().abs().tolist()
    gradient = layer.dense_gradient().flatten().abs().tolist()
    rule = SeenGSE(distribution, candidates)
    change = update_layer(layer, rule, fraction, None, seeded(seed))
    after = set(layer.active_positions().tolist())
    assert len(after) == len(before)
    absent = set(range(23 * 17)) - set(before)
    n = min(int(fraction * len(before)), len(absent))
    drawn = rule.drawn.tolist() if hasattr(rule, "drawn") else sorted(absent)
    assert drawn == sorted(set(drawn) & absent)
    n_grown = min(n, len(drawn))
    assert change.grown == change.dropped == n_grown
    grown = sorted(drawn, key=lambda i: (-gradient[i], i))[:n_grown]
    kept = sorted(range(len(before)), key=lambda k: (-weight[k], k))[: len(before) - n_grown]
    assert after == {*grown, *(before[k] for k in kept)}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_with_all_positions_it_is_rigl_without_returns(storage, distribution):
    masks = []
    for rule in (GSERule(distribution, candidates=1000), RigLVariantRule(may_return=False)):
        layer = prepared(storage=storage)
        update_layer(layer, rule, 0.4, None, seeded())
        masks.append(layer.mask)
    assert torch.equal(*masks)


@pytest.mark.parametrize("storage", STORAGES)
def test_rigl_with_a_candidate_for_every_position_is_rigl(storage):
    masks = []
    for candidates in ("all", 100.0, 1.0):
        layer = prepared(storage=storage)
        update_layer(layer, RigLRule(candidates), 0.4, None, seeded())
        masks.append(layer.mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@given(candidates=st.floats(0.05, 4), fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_rigl_grows_the_best_of_its_candidates(candidates, fraction, seed):
    layer = prepared(seed=seed)
    before, gradient = set(layer.active_positions().tolist()), layer.dense_gradient().flatten().abs()
    rule, n = SeenRigL(candidates), int(fraction * layer.n_connections)
    update_layer(layer, rule, fraction, None, seeded(seed))
    after = set(layer.active_positions().tolist())
    assert len(after) == len(before)
    if not hasattr(rule, "drawn"):
        assert n == 0 or round(candidates * len(before)) >= 23 * 17 - (len(before) - n)
        return
    drawn = rule.drawn.tolist()
    assert len(drawn) == max(round(candidates * len(before)), n)
    best = sorted(drawn, key=lambda i: (-gradient[i].item(), i))[:n]
    assert set(best) <= after
    assert after <= before | set(best)


@pytest.mark.parametrize("rule", [GSERule("grabo", 2.0), RigLRule(2.0)], ids=["GSE", "RigL"])
def test_both_storages_draw_the_same(rule):
    masks = []
    for storage in STORAGES:
        layer = prepared(storage=storage)
        update_layer(layer, rule, 0.4, None, seeded())
        masks.append(layer.mask)
    assert torch.equal(*masks)


def test_where_few_are_drawn_few_are_exchanged():
    linear = random_linear(20, 10, 0.3, 0, "masked", torch.float64)
    layer = linear.view
    layer.record_dense_gradient = True
    layer.record_activity(True)
    x = torch.zeros(4, 20, dtype=torch.float64)
    x[:, 3] = 1
    linear(x)[:, 5].sum().backward()  # one input, one neuron: a single pair is ever drawn
    before = layer.mask.clone()
    layer.set_mask(before & (torch.arange(200).view(10, 20) != 5 * 20 + 3))
    before = layer.mask.clone()
    change = update_layer(layer, GSERule("graest"), 0.5, None, seeded())
    assert change.grown == change.dropped == 1
    assert (layer.mask & ~before).nonzero().tolist() == [[5, 3]]
    assert change.contested == pytest.approx(1 / int(before.sum()))


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, groups=2, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean(dim=(2, 3)))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_convolution_grows_what_its_inputs_call_for(distribution):
    torch.manual_seed(0)
    model = Convolution()
    sparsify(model, 0.8, include=["conv"])
    (layer,) = sparse_layers(model).values()
    x = torch.randn(5, 4, 6, 6)
    x[:, 1] = 0  # no gradient to a whole input channel of the first group
    rule = SeenGSE(distribution, 2.0)
    layer.record_dense_gradient = True
    layer.record_activity(True)
    model(x).square().sum().backward()
    count = layer.n_connections
    assert update_layer(layer, rule, 0.5, None, seeded()).grown > 0
    assert layer.n_connections == count
    dead = {o * 18 + j for o in range(4) for j in range(9, 18)}
    assert bool(dead & set(rule.drawn.tolist())) == (distribution == "uniform")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rule", [GSERule("graest"), RigLRule(1.5)], ids=["GSE", "RigL"])
def test_a_resumed_loop_draws_the_same(rule, storage):
    arguments = {"storage": storage, "rule": rule, "schedule": CosineSchedule(0.3, 5, 5, 1000)}
    whole = Loop(**arguments, skip_step_on_update=False).train(23)
    cut = Loop(**arguments, skip_step_on_update=False).train(12)
    resumed = Loop(**arguments, skip_step_on_update=False)
    resumed.load_state_dict(cut.state_dict())
    resumed.train(11)
    assert len(whole.changes) == 4
    assert all(change.grown > 0 for changes in whole.changes.values() for change in changes.values())
    for name, layer in whole.layers.items():
        assert torch.equal(layer.mask, resumed.layers[name].mask)
        assert torch.equal(layer.active_values(), resumed.layers[name].active_values())


@pytest.mark.parametrize("storage", STORAGES)
def test_hooks_are_there_for_the_steps_of_updates_only(storage):
    loop = Loop(storage, GSERule(), CosineSchedule(0.3, 5, 5, 1000))
    modules = [loop.network.fc1, loop.network.fc2]
    for step in range(12):
        expected = step in (5, 10) and storage == "masked"
        assert [bool(module._forward_hooks) for module in modules] == [expected] * 2
        loop.step()
    loop.updater.stop()


def test_the_cost_is_that_of_the_candidates():
    loop = Loop("csr", GSERule(candidates=0.5), CosineSchedule(0.3, 5, 5, 1000)).train(5)
    layer = loop.layers["fc1"]
    assert layer.count_gradients() == layer.n_connections + round(0.5 * layer.n_connections)
    assert Loop("csr", schedule=CosineSchedule(0.3, 5, 0, 1000)).layers["fc1"].count_gradients() == 64 * 48


def big_layer():
    """A csr layer of 2³³ positions, with 40,000 connections."""
    n_in, n_out = 2**16, 2**17
    keys = torch.randint(n_in * n_out, (40_000,), generator=seeded()).unique()
    fan_in = torch.bincount(keys // n_in, minlength=n_out)
    return sparse_linear(Connectivity.from_fan_in(n_in, fan_in.numpy(), (keys % n_in).numpy()), "csr")


@pytest.mark.parametrize(
    "rule",
    [*map(GSERule, DISTRIBUTIONS), RigLRule(0.5), SETRule(), MESTRule()],
    ids=[*DISTRIBUTIONS, "RigL", "SET", "MEST"],
)
def test_an_update_of_positions_beyond_32_bits(rule):
    """Of a layer whose dense gradient would take 32 GiB."""
    linear = big_layer()
    layer, before = linear.view, set(linear.view.active_positions().tolist())
    layer.record_dense_gradient = rule.needs_gradient
    (linear(torch.randn(3, layer.n_in)) - 1).square().mean().backward()
    optimizer = torch.optim.Adam(linear.module.parameters())
    optimizer.step()
    change = update_layer(layer, rule, 0.3, optimizer, seeded())
    after = layer.active_positions()
    assert bool((after[1:] > after[:-1]).all())
    assert change.grown == len(set(after.tolist()) - before) > 10_000
    assert len(after) == len(before)
    new = after[torch.tensor([position not in before for position in after.tolist()])]
    assert (new > 2**32).float().mean() == pytest.approx(0.5, abs=0.1)
    assert not layer.active_values()[torch.isin(after, new)].any()


def test_settings_that_cannot_be():
    for wrong in (0, -1.0, float("inf"), float("nan"), "some"):
        with pytest.raises(SettingError, match="candidates"):
            RigLRule(wrong)
    with pytest.raises(SettingError, match="distribution"):
        GSERule("normal")
    with pytest.raises(SettingError, match="candidates"):
        NMRule(RigLRule(2.0))
    GSERule().check({"fc1": LayerState("fc1", 10, 20, 30, 30)})


def test_layers_that_do_not_show_their_inputs_are_drawn_uniformly_or_refused():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    sparsify(model, 0.5)
    layers = sparse_layers(model)
    with pytest.raises(SettingError, match=r"GSERule .*self_attn\.in_proj_weight, self_attn\.out_proj "):
        check_layers(layers, GSERule())
    check_layers(layers, GSERule("uniform"))
