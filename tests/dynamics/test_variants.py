"""RigL's variants: what each choice changes, against RigL itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import LayerState, RigLRule, RigLVariantRule, update_layer
from tests.dynamics.test_engine import trained


def updated(layer, rule, fraction=0.3, **arguments):
    sparse = layer(seed=4)
    optimizer = trained(sparse)
    before = sparse.mask.clone()
    rule.prepare({"layer": sparse.active_values()}, fraction)
    update_layer(sparse, rule, fraction, optimizer, torch.Generator(), **arguments)
    return before, sparse


def test_without_arguments_it_is_rigl(layer):
    _, rigl = updated(layer, RigLRule())
    _, variant = updated(layer, RigLVariantRule())
    assert torch.equal(rigl.mask, variant.mask)


def test_what_may_not_return_does_not(layer):
    before, sparse = updated(layer, RigLVariantRule(may_return=False))
    grown = sparse.mask & ~before
    assert int(grown.sum()) == int(0.3 * before.sum())
    assert int(sparse.mask.sum()) == int(before.sum())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("n_active", "replaced"), [(50, 30), (90, 10), (100, 0)])
def test_a_layer_that_is_nearly_dense_replaces_what_it_has_room_for(scope, n_active, replaced):
    rule = RigLVariantRule(may_return=False, drop_scope=scope)
    rule.prepare({"layer": torch.arange(float(n_active))}, fraction=0.6)
    assert rule.counts(0.6, LayerState("layer", 10, 10, n_active, n_active)) == (replaced, replaced)


def test_unseen_growth_takes_the_first_free_positions(layer):
    before, sparse = updated(layer, RigLVariantRule(may_return=False, sees_absent=False))
    free = (~before).flatten().nonzero().squeeze(1)
    grown = (sparse.mask & ~before).flatten().nonzero().squeeze(1)
    assert torch.equal(grown, free[: len(grown)])


def test_growth_can_look_at_another_gradient(layer):
    gradient = torch.zeros(layer(seed=4).mask.shape)
    gradient[0] = 1.0
    _, sparse = updated(layer, RigLVariantRule(), gradient=gradient.__getitem__)
    assert sparse.mask[0].all()


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), fraction=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_global_drop_takes_the_smallest_of_all(sizes, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = {str(i): torch.randn(size, generator=generator) for i, size in enumerate(sizes)}
    rule = RigLVariantRule(drop_scope="global")
    rule.prepare(weights, fraction)
    counts = {name: rule.counts(fraction, LayerState(name, 1, 1, 1, 1)) for name in weights}
    total = int(fraction * sum(sizes))
    bound = torch.cat(list(weights.values())).abs().sort().values[:total].max() if total else -1.0
    for name, weight in weights.items():
        assert counts[name] == (int((weight.abs() <= bound).sum()),) * 2


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_counts_of_one_layer_alone_are_the_same(scope, layer):
    _, sparse = updated(layer, RigLVariantRule(drop_scope=scope))
    _, rigl = updated(layer, RigLRule())
    assert torch.equal(sparse.mask, rigl.mask)
