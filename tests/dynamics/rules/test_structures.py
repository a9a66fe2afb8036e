"""Rules held to N:M and to whole units, against loops over groups."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    CHTRule,
    ConstantSchedule,
    CubicSchedule,
    LayerState,
    MagnitudePruningRule,
    NMRule,
    RigLRule,
    SETRule,
    SRigLRule,
    UnitRule,
    Update,
    update_layer,
)
from psn_lightning.errors import SettingError
from psn_lightning.paper.variant_updater import RigLVariantRule
from psn_lightning.topology import Connectivity
from tests.helpers.layers import STORAGES, sparse_linear
from tests.helpers.loops import Loop


def layer_of(mask, storage="masked", seed=0):
    return sparse_linear(Connectivity.from_mask(mask), storage, torch.float64, seed).view


def draw_groups(n_groups, n, m, seed):
    """Mask of exactly N connections in each group of M, as rows of groups."""
    scores = torch.rand(n_groups, m, generator=torch.Generator().manual_seed(seed))
    return torch.zeros(n_groups, m, dtype=torch.bool).scatter_(1, scores.topk(n, dim=1).indices, True)


@settings(max_examples=40)
@given(
    numbers=st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 5)]),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 4)),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 999),
)
@pytest.mark.parametrize("storage", STORAGES)
def test_each_group_keeps_its_best_and_is_filled_by_its_largest_gradients(storage, numbers, shape, fraction, seed):
    (n, m), (n_out, groups) = numbers, shape
    layer = layer_of(draw_groups(n_out * groups, n, m, seed).view(n_out, -1).numpy(), storage, seed)
    weight = torch.zeros(n_out * groups * m, dtype=torch.float64)
    before = layer.active_positions().tolist()
    weight[before] = layer.active_values().abs()
    gradient = torch.randn(n_out, groups * m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    update_layer(layer, NMRule(RigLRule(), n, m), fraction, None, torch.Generator(), gradient=gradient.__getitem__)
    kept = set(sorted(before, key=lambda p: (-float(weight[p]), p))[: len(before) - int(fraction * len(before))])
    expected = set(kept)
    for first in range(0, len(weight), m):
        free = [p for p in range(first, first + m) if p not in kept]
        largest = sorted(free, key=lambda p: (-abs(float(gradient.flatten()[p])), p))
        expected |= set(largest[: n - len(kept & set(range(first, first + m)))])
    assert set(layer.active_positions().tolist()) == expected


def test_the_first_update_makes_groups_of_any_mask():
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[:3] = True  # half of the positions, in the wrong places
    layer = layer_of(mask.numpy())
    update_layer(layer, NMRule(SETRule(), 2, 4), 0.1, None, torch.Generator().manual_seed(0))
    assert (layer.mask.view(-1, 4).sum(dim=1) == 2).all()
    assert int((layer.mask & mask).sum()) == 12  # two of each group of the neurons that had all


@settings(max_examples=40)
@given(
    size=st.sampled_from([None, 1, 2, 3, 6]),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 999),
    units=st.integers(1, 9),
)
@pytest.mark.parametrize("storage", STORAGES)
def test_units_move_whole_by_their_mean_scores(storage, size, fraction, seed, units):
    n_in, n_out = 6, 5
    width = size or n_in
    n_units, generator = n_out * n_in // width, torch.Generator().manual_seed(seed)
    active = torch.zeros(n_units, dtype=torch.bool)
    active[torch.randperm(n_units, generator=generator)[:units]] = True
    layer = layer_of(active[:, None].expand(-1, width).reshape(n_out, n_in).numpy(), storage, seed)
    weight = torch.zeros(n_out * n_in, dtype=torch.float64)
    weight[layer.active_positions()] = layer.active_values().abs()
    gradient = torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)
    update_layer(layer, UnitRule(RigLRule(), size), fraction, None, torch.Generator(), gradient=gradient.__getitem__)
    means, gains = weight.view(-1, width).mean(dim=1).tolist(), gradient.abs().view(-1, width).mean(dim=1).tolist()
    before = active.nonzero().flatten().tolist()
    n_moved = int(fraction * len(before) * width) // width
    kept = sorted(before, key=lambda u: -means[u])[: len(before) - n_moved]
    grown = sorted(set(range(n_units)) - set(kept), key=lambda u: -gains[u])[: len(before) - len(kept)]
    expected = torch.zeros(n_units, dtype=torch.bool)
    expected[kept + grown] = True
    assert torch.equal(layer.mask.view(-1, width), expected[:, None].expand(-1, width))


@pytest.mark.parametrize("wanted", [(10, 9), (0, 15), (20, 20), (19, 0), (100, 1)])
def test_counts_are_rounded_up_to_whole_units(wanted):
    class Wanted(RigLRule):
        def counts(self, layer, update):
            return wanted

    n_drop, n_grow = UnitRule(Wanted(), 10).counts(LayerState("fc1", 20, 10, 100, 100), Update(0.3))
    target = 100 - wanted[0] + wanted[1]
    assert n_drop % 10 == n_grow % 10 == 0
    assert n_drop <= wanted[0]
    assert target <= 100 - n_drop + n_grow < target + 10


def test_gradual_pruning_of_whole_neurons_through_a_run():
    loop = Loop("masked", UnitRule(MagnitudePruningRule(0.9)), CubicSchedule(1.0, 5, 5, 26))
    for layer in loop.layers.values():
        layer.set_active(torch.arange(layer.n_out * layer.n_in))
    loop.updater = type(loop.updater)(loop.layers, loop.updater.rule, loop.updater.schedule, loop.optimizer)
    loop.train(27)
    for layer in loop.layers.values():
        counts = layer.mask.sum(dim=1)
        assert set(counts.tolist()) == {0, layer.n_in}
        assert int((counts > 0).sum()) == -(-layer.n_out // 10)


def test_a_resumed_loop_is_held_as_well():
    straight, first = (Loop("masked", UnitRule(RigLRule(), 1), ConstantSchedule(0.3, 5, 5, 26)) for _ in range(2))
    straight.train(20)
    second = Loop("masked", UnitRule(RigLRule(), 1), ConstantSchedule(0.3, 5, 5, 26))
    second.load_state_dict(first.train(8).state_dict())
    second.train(12)
    assert all(torch.equal(a, b) for a, b in zip(straight.masks().values(), second.masks().values(), strict=True))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: NMRule(RigLRule(), 4, 4), "0 < n < m"),
        (lambda: NMRule(MagnitudePruningRule(0.5)), "MagnitudePruningRule"),
        (lambda: NMRule(SRigLRule()), "SRigLRule"),
        (lambda: NMRule(RigLVariantRule(may_return=False)), "RigLVariantRule"),
        (lambda: UnitRule(CHTRule()), "CHTRule"),
        (lambda: UnitRule(RigLRule(), 0), "size 0"),
        (lambda: NMRule(RigLRule()).check({"fc1": LayerState("fc1", 4, 6, 12, 12)}), "fc1: 2:4"),
        (lambda: NMRule(RigLRule()).check({"fc1": LayerState("fc1", 4, 8, 12, 12)}), "fc1: 2:4"),
        (lambda: UnitRule(RigLRule(), 4).check({"fc1": LayerState("fc1", 4, 6, 12, 12)}), "units of 4"),
    ],
)
def test_what_does_not_fit_is_refused(make, match):
    with pytest.raises(SettingError, match=match):
        make()


def test_units_that_are_not_whole_are_refused():
    layer = layer_of(draw_groups(4, 2, 6, 0).numpy())
    with pytest.raises(SettingError, match="whole units of 6"):
        update_layer(layer, UnitRule(SETRule()), 0.5, None, torch.Generator())


@pytest.mark.parametrize(("gamma", "fewest"), [(0.55, 55), (0.07, 7), (0.3, 30), (0.305, 31)])
def test_a_neuron_with_exactly_its_share_of_salient_connections_stays(gamma, fewest):
    """0.55 · 100 is 55.00000000000001 in floats."""
    layer = LayerState("fc1", 2, 400, 200, 200)
    fan_in = SRigLRule(gamma).fan_in(lambda: torch.tensor([fewest, 100]), layer)
    assert fan_in.tolist() == [100, 100]
    fan_in = SRigLRule(gamma).fan_in(lambda: torch.tensor([fewest - 1, 100]), layer)
    assert fan_in.tolist() == [0, 200]
