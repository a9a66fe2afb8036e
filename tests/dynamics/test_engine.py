"""The engine against a slow, obvious RigL that sorts Python lists."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    LayerState,
    MagnitudePruningRule,
    RigLRule,
    Rule,
    SRigLRule,
    blocks,
    moments_of,
    update_layer,
)
from psn_lightning.errors import SettingError


def step_with_dense_gradient(linear, optimizer, seed=0):
    x = torch.randn(6, linear.view.n_in, generator=torch.Generator().manual_seed(seed))
    linear.view.record_dense_gradient = True
    optimizer.zero_grad()
    linear(x).square().mean().backward()


def trained(linear, steps=3):
    optimizer = torch.optim.Adam(linear.module.parameters(), lr=0.01)
    for i in range(steps):
        step_with_dense_gradient(linear, optimizer, seed=i)
        linear.view.mask_gradient()
        optimizer.step()
    step_with_dense_gradient(linear, optimizer, seed=99)
    return optimizer


def oracle_mask(layer, n_drop):
    """RigL by sorting (score, position)."""
    weight, gradient = layer.parameter.detach().flatten().tolist(), layer.dense_gradient().flatten().tolist()
    active = [i for i, on in enumerate(layer.mask.flatten().tolist()) if on]
    kept = set(sorted(active, key=lambda i: (-abs(weight[i]), i))[: len(active) - n_drop])
    candidates = [i for i in range(len(weight)) if i not in kept]
    grown = sorted(candidates, key=lambda i: (-abs(gradient[i]), i))[:n_drop]
    mask = torch.zeros(len(weight), dtype=torch.bool)
    mask[sorted(kept | set(grown))] = True
    return mask.view(layer.mask.shape)


@settings(max_examples=30, deadline=None)
@given(density=st.floats(0.05, 0.95), fraction=st.floats(0, 1), seed=st.integers(0, 999))
def test_against_the_oracle(density, fraction, seed, layer):
    linear = layer(density=density, seed=seed)
    optimizer, sparse = trained(linear), linear.view
    before = sparse.mask.clone()
    count = int(before.sum())
    expected = oracle_mask(sparse, int(fraction * count))
    change = update_layer(sparse, RigLRule(), fraction, optimizer, torch.Generator())
    assert int(sparse.mask.sum()) == count
    assert torch.equal(sparse.mask, expected)
    assert change.grown == change.dropped == int((expected & ~before).sum())
    assert change.contested * count == pytest.approx(int(fraction * count))


@pytest.mark.parametrize("block", [1, 30, 100])
def test_blocks_make_no_difference(layer, block, monkeypatch):
    masks = []
    for size in (2**22, block):
        monkeypatch.setattr(blocks, "_BLOCK", size)
        linear = layer(n_in=20, n_out=17)
        update_layer(linear.view, RigLRule(), 0.4, trained(linear), torch.Generator())
        masks.append(linear.view.mask)
    assert torch.equal(*masks)


def test_grown_start_at_zero_and_regrown_keep_everything(layer):
    linear = layer(n_in=40, n_out=30, density=0.3)
    optimizer, sparse = trained(linear), linear.view
    mask, weight = sparse.mask.clone(), sparse.parameter.detach().clone()
    moments = [m.clone() for m in moments_of(sparse, optimizer)]
    assert len(moments) == 2
    dropped_first = mask & ~oracle_kept(sparse, 0.9)
    update_layer(sparse, RigLRule(), 0.9, optimizer, torch.Generator())
    new = sparse.mask & ~mask
    regrown = dropped_first & sparse.mask
    gone = mask & ~sparse.mask
    assert new.any()
    assert regrown.any()
    assert gone.any()
    for now, before in zip([sparse.parameter, *moments_of(sparse, optimizer)], [weight, *moments], strict=True):
        assert not now[new].any()
        assert not now[gone].any()
        assert torch.equal(now[regrown], before[regrown])
        assert torch.equal(now[mask & sparse.mask], before[mask & sparse.mask])


def oracle_kept(layer, fraction):
    magnitude = (layer.parameter.detach().abs() * layer.mask).flatten()
    n_keep = int(layer.mask.sum()) - int(fraction * int(layer.mask.sum()))
    kept = torch.zeros_like(layer.mask).flatten()
    kept[magnitude.argsort(descending=True)[:n_keep]] = True
    return kept.view(layer.mask.shape)


class Constant(Rule):
    """Every score ties; some are not even numbers."""

    needs_gradient = False

    def __init__(self, value):
        self.value = value

    def drop_scores(self, connections, generator):
        return torch.full_like(connections.weight, self.value)

    def grow_scores(self, block, generator):
        return torch.full(block.mask.shape, self.value)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_counts_are_exact_whatever_the_ties(layer, value, fraction):
    sparse = layer(density=0.5).view
    count = int(sparse.mask.sum())
    update_layer(sparse, Constant(value), fraction, None, torch.Generator())
    assert int(sparse.mask.sum()) == count


def test_a_full_layer_stays_full(layer):
    sparse = layer(density=1.1).view
    update_layer(sparse, Constant(0.0), 0.5, None, torch.Generator())
    assert sparse.mask.all()


def test_sgd_momentum_moves_too_and_no_moments_are_no_trouble(layer):
    linear = layer()
    sparse = linear.view
    optimizer = torch.optim.SGD(linear.module.parameters(), lr=0.1, momentum=0.9)
    step_with_dense_gradient(linear, optimizer)
    update_layer(sparse, RigLRule(), 0.3, optimizer, torch.Generator())  # before any step: no state yet
    sparse.mask_gradient()
    optimizer.step()
    step_with_dense_gradient(linear, optimizer, 1)
    update_layer(sparse, RigLRule(), 0.3, optimizer, torch.Generator())
    (momentum,) = moments_of(sparse, optimizer)
    assert not momentum[~sparse.mask].any()


def test_a_rule_that_needs_the_gradient_says_when_it_is_missing(layer):
    with pytest.raises(RuntimeError, match="record_dense_gradient"):
        update_layer(layer().view, RigLRule(), 0.3, None, torch.Generator())


@pytest.mark.parametrize("rule", [MagnitudePruningRule(0.999), SRigLRule(0.0)], ids=["pruning", "SRigL"])
def test_an_update_that_would_leave_a_layer_without_connections_is_refused(layer, rule):
    linear = layer(density=0.05)
    optimizer, sparse = trained(linear), linear.view
    before = [t.clone() for t in (sparse.mask, sparse.parameter, *moments_of(sparse, optimizer))]
    count = int(sparse.mask.sum())
    assert 0 < count < sparse.n_out  # too few for a fan-in that is the same everywhere
    message = rf"fc7: .* {count} connections .*11 × 13"
    with pytest.raises(SettingError, match=message):
        update_layer(sparse, rule, 0.0, optimizer, torch.Generator(), "fc7")
    after = [sparse.mask, sparse.parameter, *moments_of(sparse, optimizer)]
    assert all(map(torch.equal, before, after))


def test_a_layer_that_is_replaced_or_pruned_to_its_last_connection_is_not_refused(layer):
    linear = layer(density=0.4)
    sparse = linear.view
    count = int(sparse.mask.sum())
    update_layer(sparse, RigLRule(), 1.0, trained(linear), torch.Generator())
    assert int(sparse.mask.sum()) == count
    update_layer(sparse, MagnitudePruningRule(1 - 1 / 143), 0.0, None, torch.Generator())
    assert int(sparse.mask.sum()) == 1


def test_a_final_sparsity_that_leaves_nothing_is_refused_before_training():
    with pytest.raises(SettingError, match=r"fc1: final_sparsity 0\.9 .*2 × 2"):
        MagnitudePruningRule(0.9).check({"fc1": LayerState("fc1", 2, 2, 4, 4)})
    MagnitudePruningRule(0.8).check({"fc1": LayerState("fc1", 2, 2, 4, 4)})
