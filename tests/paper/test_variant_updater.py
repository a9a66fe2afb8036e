"""Variants of RigL: the effect of each choice, compared with RigL."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    Connections,
    ConstantSchedule,
    LayerState,
    RigLRule,
    Update,
    moments_of,
    update_layer,
)
from psn_lightning.paper.variant_updater import RigLVariantRule, VariantUpdater
from tests.dynamics.test_engine import trained
from tests.helpers.layers import STORAGES
from tests.helpers.loops import Loop


def updated(layer, rule, fraction=0.3, **arguments):
    linear = layer(seed=4)
    optimizer, sparse = trained(linear), linear.view
    before = sparse.mask.clone()
    update_layer(sparse, rule, fraction, optimizer, torch.Generator(), **arguments)
    return before, sparse


def connections_of(weights):
    """The first connections of layers of 10 × 10."""
    return {
        name: Connections(
            LayerState(name, 10, 10, len(weight), len(weight)), torch.arange(len(weight)), weight, lambda: None
        )
        for name, weight in weights.items()
    }


def test_the_default_rule_is_rigl(layer):
    _, rigl = updated(layer, RigLRule())
    _, variant = updated(layer, RigLVariantRule())
    assert torch.equal(rigl.mask, variant.mask)


def test_dropped_connections_that_may_not_return_stay_absent(layer):
    before, sparse = updated(layer, RigLVariantRule(may_return=False))
    grown = sparse.mask & ~before
    assert int(grown.sum()) == int(0.3 * before.sum())
    assert int(sparse.mask.sum()) == int(before.sum())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("n_active", "replaced"), [(50, 30), (90, 10), (100, 0)])
def test_a_nearly_dense_layer_replaces_as_many_connections_as_it_has_free_positions(scope, n_active, replaced):
    rule = RigLVariantRule(may_return=False, drop_scope=scope)
    layers = connections_of({"layer": torch.arange(float(n_active))})
    rule.prepare(layers, Update(0.6))
    assert rule.counts(layers["layer"].layer, Update(0.6)) == (replaced, replaced)


def test_unseen_growth_takes_the_first_free_positions(layer):
    before, sparse = updated(layer, RigLVariantRule(may_return=False, sees_absent=False))
    free = (~before).flatten().nonzero().squeeze(1)
    grown = (sparse.mask & ~before).flatten().nonzero().squeeze(1)
    assert torch.equal(grown, free[: len(grown)])


def test_growth_compares_a_given_gradient(layer):
    gradient = torch.zeros(layer(seed=4).view.mask.shape)
    gradient[0] = 1.0
    _, sparse = updated(layer, RigLVariantRule(), gradient=gradient.__getitem__)
    assert sparse.mask[0].all()


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_global_drop_takes_the_smallest_weights_of_all_layers(sizes, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = {str(i): torch.randn(size, generator=generator) for i, size in enumerate(sizes)}
    rule = RigLVariantRule(drop_scope="global")
    layers = connections_of(weights)
    rule.prepare(layers, Update(fraction))
    counts = {name: rule.counts(connections.layer, Update(fraction)) for name, connections in layers.items()}
    total = int(fraction * sum(sizes))
    bound = torch.cat(list(weights.values())).abs().sort().values[:total].max() if total else -1.0
    for name, weight in weights.items():
        assert counts[name] == (int((weight.abs() <= bound).sum()),) * 2


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_both_scopes_are_equal_for_a_single_layer(scope, layer):
    _, sparse = updated(layer, RigLVariantRule(drop_scope=scope))
    _, rigl = updated(layer, RigLRule())
    assert torch.equal(sparse.mask, rigl.mask)


# --- choices besides drop and growth


def loop_of(storage="masked", rule=None, **choices):
    """Training loop with updates at steps 10 and 20."""

    def make(*arguments, **settings):
        return VariantUpdater(*arguments, **choices, **settings)

    return Loop(storage, rule or RigLVariantRule(), ConstantSchedule(0.3, 10, 10, 25), make)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_default_choices_are_the_plain_updater(storage):
    variant, plain = loop_of(storage).train(25), Loop(storage, schedule=ConstantSchedule(0.3, 10, 10, 25)).train(25)
    assert variant.changes == plain.changes
    for name, value in plain.network.state_dict().items():
        assert torch.equal(variant.network.state_dict()[name], value)


@pytest.mark.parametrize("storage", STORAGES)
def test_grown_weights_are_drawn_like_initial_weights(storage):
    loop = loop_of(storage, RigLVariantRule(grown_value="initial")).train(10)
    before, values = loop.masks(), loop.layers["fc1"].active_values().clone()
    loop.step()  # the update replaces the optimizer step
    layer = loop.layers["fc1"]
    weight = torch.zeros(layer.mask.shape, dtype=torch.float64)
    weight[layer.mask] = layer.active_values()
    old = torch.zeros_like(weight)
    old[before["fc1"]] = values
    new, stayed = weight[layer.mask & ~before["fc1"]], layer.mask & before["fc1"]
    assert len(new) > 50
    assert float(new.std()) == pytest.approx((2 * layer.n_out / int(layer.mask.sum())) ** 0.5, rel=0.25)
    assert torch.equal(weight[stayed], old[stayed])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kept", [True, False])
def test_moments_are_kept_or_reset(storage, kept):
    loop = loop_of(storage, moments="kept" if kept else "reset").train(11)
    assert list(loop.changes) == [10]
    for layer in loop.layers.values():
        moments = moments_of(layer, loop.optimizer)
        assert len(moments) == 2
        assert [bool(moment.any()) for moment in moments] == [kept] * 2


@pytest.mark.parametrize("storage", STORAGES)
def test_growth_sees_the_sum_of_the_gradients(storage):
    loop, seen = loop_of(storage, RigLVariantRule(may_return=False), gradient_steps=4), {}
    for step in range(11):
        loop.optimizer.zero_grad()
        loop.backward(step)
        before = loop.masks()["fc1"]
        if loop.layers["fc1"].record_dense_gradient:
            seen[step] = loop.layers["fc1"].dense_gradient().clone()
        loop.updater.before_step()
        loop.optimizer.step()
    assert list(seen) == [7, 8, 9, 10]
    summed = sum(seen.values()).abs()
    grown = loop.layers["fc1"].mask & ~before
    assert int(grown.sum()) > 50
    assert float(summed[grown].min()) >= float(summed[~before & ~grown].max())


@pytest.mark.parametrize("storage", STORAGES)
def test_only_gradients_that_are_summed_are_recorded(storage):
    loop, recorded = loop_of(storage, gradient_steps=3), []
    for _ in range(25):
        recorded.append(loop.layers["fc1"].record_dense_gradient)
        loop.step()
    assert [step for step, records in enumerate(recorded) if records] == [8, 9, 10, 18, 19, 20]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("stop", [5, 8, 10, 11])
def test_the_sums_are_in_the_state_dict(storage, stop):
    straight = loop_of(storage, gradient_steps=5).train(25)
    first, second = loop_of(storage, gradient_steps=5).train(stop), loop_of(storage, gradient_steps=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.train(25 - stop)
    assert first.changes | second.changes == straight.changes
    for name, value in straight.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value)
