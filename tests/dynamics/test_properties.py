"""What holds for schedules, selections and updates of every layer, from 1 × 1 to 4096 wide."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    Connections,
    ConstantSchedule,
    CosineSchedule,
    CubicSchedule,
    LayerState,
    LinearSchedule,
    MagnitudePruningRule,
    RigLRule,
    Rule,
    SETRule,
    SRigLRule,
    Window,
    moments_of,
    update_layer,
)
from psn_lightning.dynamics.selection import RunningTop, select_top, select_top_per_row, sort_ascending
from psn_lightning.errors import SettingError
from psn_lightning.paper.variant_updater import RigLVariantRule
from tests.helpers.layers import STORAGES, sparse_linear
from tests.topology.drawing import from_keys, random_connectivity, seeds, sizes

quick = settings(max_examples=50, deadline=None)
fractions = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0]))

# --- schedules

schedules = st.tuples(
    st.sampled_from([ConstantSchedule, CosineSchedule, CubicSchedule, LinearSchedule]),
    st.floats(0, 1, exclude_min=True),
    st.one_of(st.integers(1, 500), st.floats(0.01, 5)),
    st.one_of(st.none(), st.integers(0, 500), st.floats(0, 1, exclude_max=True)),
    st.one_of(st.integers(1, 5000), st.floats(0, 1, exclude_min=True)),
).map(lambda arguments: arguments[0](*arguments[1:]))


@settings(max_examples=100, deadline=None)
@given(schedule=schedules, total=st.integers(1, 5000), per_epoch=st.integers(1, 500))
def test_a_schedule_falls_from_its_drop_fraction_and_a_window_holds_its_updates(schedule, total, per_epoch):
    period, begin, end = (
        value if value is None or isinstance(value, int) else round(value * whole)
        for value, whole in [(schedule.period, per_epoch), (schedule.begin, total), (schedule.end, total)]
    )
    first, stop = period if begin is None else begin, min(end, total)
    alike = type(schedule.begin) is type(schedule.end)
    if begin is not None and (schedule.begin >= schedule.end if alike else 0 < end <= first < total):
        with pytest.raises(SettingError, match=r"begin .*end"):
            schedule.window(total, per_epoch)
        return
    window = schedule.window(total, per_epoch)
    assert window.is_empty == (stop <= first)
    begin, end = first, max(first, stop)
    assert window == Window(begin, end, max(1, period))
    updates = [step for step in range(total) if window.is_update(step)]
    assert updates == list(range(window.begin, window.end, window.period))
    assert len(updates) == -(-(window.end - window.begin) // window.period)
    if window.is_empty:
        return
    assert updates[-1] == window.last
    shares = [schedule.fraction(step, window) for step in updates]
    assert all(0 <= share <= schedule.drop_fraction * (1 + 1e-12) for share in shares)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(shares))
    for step, share in zip(updates, shares, strict=True):
        progress = (step - begin) / (end - begin)
        way = (step - begin) / (updates[-1] - begin) if len(updates) > 1 else 1.0  # from the first update to the last
        left = {
            ConstantSchedule: 1.0,
            CosineSchedule: math.cos(math.pi * progress / 2) ** 2,
            CubicSchedule: (1 - way) ** 3,
            LinearSchedule: 1 - progress,
        }[type(schedule)]
        assert share == pytest.approx(schedule.drop_fraction * left, abs=1e-12)


# --- selection

values = st.sampled_from([-math.inf, -2.5, -0.0, 0.0, 1e-30, 1.0, 1.0 + 2**-23, math.inf, math.nan])
drawn_scores = st.one_of(
    st.lists(values, min_size=1, max_size=60),
    st.lists(st.floats(width=32), min_size=1, max_size=60),
)


def best(scores, candidates, count):
    """Highest first, NaN with -inf, ties by position."""
    return sorted(sorted(candidates, key=lambda i: (-(-math.inf if math.isnan(scores[i]) else scores[i]), i))[:count])


@quick
@given(scores=drawn_scores, share=fractions, data=st.data())
def test_the_top_is_the_same_whole_or_in_blocks_of_any_size(scores, share, data):
    tensor, everything = torch.tensor(scores), range(len(scores))
    count = int(share * len(scores))
    expected = best(scores, everything, count)
    assert select_top(tensor, count).tolist() == expected
    cuts = sorted(data.draw(st.sets(st.sampled_from(everything))) | {0})
    running = RunningTop(count)
    for first, last in zip(cuts, [*cuts[1:], len(scores)], strict=True):
        running.add(tensor[first:last], torch.ones(last - first, dtype=torch.bool), first)
    assert running.positions().tolist() == expected


@quick
@given(n=st.integers(1, 3000), levels=st.integers(1, 9), share=fractions, monotone=st.floats(0.1, 10), seed=seeds)
def test_only_the_order_of_scores_counts_and_among_equals_the_position(n, levels, share, monotone, seed):
    scores = torch.randint(levels, (n,), generator=torch.Generator().manual_seed(seed))
    count = int(share * n)
    chosen = select_top(scores.double(), count)
    assert torch.equal(chosen, select_top(monotone * scores.double() - 1, count))
    assert len(chosen) == count
    assert (chosen.diff() > 0).all()
    inside = torch.zeros(n, dtype=torch.bool)
    inside[chosen] = True
    for level in range(levels):
        own = inside[scores == level].int()
        assert (own.diff() <= 0).all()  # of equals the first ones
    if 0 < count < n:
        assert scores[inside].min() >= scores[~inside].max()


@quick
@given(rows=st.integers(1, 12), n=sizes(high=300), levels=st.integers(1, 50), density=st.floats(0, 1), seed=seeds)
@example(rows=1, n=1, levels=1, density=1.0, seed=0)
@example(rows=3, n=4096, levels=3, density=0.5, seed=0)
def test_the_top_of_each_row_is_that_of_the_row_alone(rows, n, levels, density, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (rows, n), generator=generator).float()
    scores[torch.rand(rows, n, generator=generator) < 0.1] = torch.nan
    candidates = torch.rand(rows, n, generator=generator) < density
    counts = (torch.rand(rows, generator=generator) * (candidates.sum(dim=1) + 1)).long()
    chosen = select_top_per_row(scores, candidates, counts)
    for row in range(rows):
        free = candidates[row].nonzero().squeeze(1)
        assert torch.equal(chosen[row].nonzero().squeeze(1), free[select_top(scores[row][free], int(counts[row]))])


@quick
@given(parts=st.lists(st.sets(st.integers(0, 2**40)), max_size=5))
def test_ascending_sorts(parts):
    positions = [position for part in parts for position in sorted(part)]
    assert sort_ascending(torch.tensor(positions, dtype=torch.int64)).tolist() == sorted(positions)


# --- updates

rules = st.one_of(
    st.just(RigLRule()),
    st.builds(RigLVariantRule, st.booleans(), st.booleans(), st.sampled_from(["layer", "global"])),
    st.just(SETRule()),
    st.floats(0, 1).map(SRigLRule),
    st.floats(0, 1, exclude_max=True).map(MagnitudePruningRule),
)
shapes = st.one_of(
    st.tuples(sizes(high=64), sizes(high=64)), st.tuples(sizes(), sizes(high=8)), st.tuples(sizes(high=8), sizes())
)


def with_moments(storages, connectivity, seed):
    """The same weights and moments in each storage; half of the weights are equal to others."""
    rng, layers = np.random.default_rng(seed), []
    n = connectivity.n_connections
    tensors = [torch.from_numpy(np.where(rng.random(n) < 0.5, rng.integers(-2, 3, n), rng.random(n))) for _ in range(3)]
    tensors[0][rng.random(n) < 0.01] = torch.nan
    for storage in storages:
        linear = sparse_linear(connectivity, storage, torch.float64, rng)
        optimizer, layer = torch.optim.Adam(linear.module.parameters()), linear.view
        weight, *moments = (layer.expand(t.clone(), layer.active_positions()) for t in tensors)
        layer.parameter.data = weight
        optimizer.state[layer.parameter] = dict(zip(("exp_avg", "exp_avg_sq"), moments, strict=True))
        layers.append((layer, optimizer))
    return layers


def values_of(layer, optimizer):
    """Weight and moments by position."""
    positions = layer.active_positions().tolist()
    tensors = [layer.compress(t).tolist() for t in (layer.parameter.detach(), *moments_of(layer, optimizer))]
    return dict(zip(positions, zip(*tensors, strict=True), strict=True))


def expected_counts(rule, fraction, state):
    """Connections after the update: all rules but two keep their number."""
    if isinstance(rule, MagnitudePruningRule):
        final = round((1 - rule.final_sparsity) * state.n_out * state.n_in)
        return {min(state.n_active, round(final + (state.n_initial - final) * fraction))}
    if isinstance(rule, SRigLRule):
        return {n * min(state.n_in, state.n_initial // n) for n in range(1, state.n_out + 1)}
    return {state.n_active}


def check_an_update(connectivity, rule, fraction, seed, storages=STORAGES):
    state = LayerState("layer", connectivity.n_out, connectivity.n_in, *[connectivity.n_connections] * 2)
    try:
        rule.check({"layer": state})
    except SettingError:
        return
    results = []

    def gradient(block):
        neurons = torch.arange(block.start, block.stop)[:, None]
        return ((neurons * 7919 + torch.arange(state.n_in) * (2 * seed + 1)) % 61 // 7 - 4).double()  # full of ties

    for layer, optimizer in with_moments(storages, connectivity, seed):
        before = values_of(layer, optimizer)
        generator = torch.Generator().manual_seed(seed)
        change = update_layer(layer, rule, fraction, optimizer, generator, gradient=gradient)
        after = values_of(layer, optimizer)
        assert list(after) == sorted(set(after))
        assert all(0 <= position < state.n_in * state.n_out for position in after)
        assert len(after) in expected_counts(rule, fraction, state)
        stayed = before.keys() & after.keys()
        for position, value in after.items():
            expected = before[position] if position in stayed else (0.0, 0.0, 0.0)
            assert value == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
        assert (change.dropped, change.grown) == (len(before) - len(stayed), len(after) - len(stayed))
        assert layer.connectivity.n_connections == len(after) == int(layer.fan_in.sum())
        tensors = [layer.parameter.detach(), *moments_of(layer, optimizer)]
        if layer.storage == "masked":
            assert not any(t[~layer.mask].any() for t in tensors)
        results.append((change, repr(after)))  # which finds NaN equal
    assert all(result == results[0] for result in results)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, share=st.floats(0, 1), rule=rules, fraction=fractions, seed=st.integers(0, 999))
@example(shape=(1, 1), share=1.0, rule=RigLRule(), fraction=1.0, seed=0)
@example(shape=(1, 1), share=1.0, rule=RigLVariantRule(may_return=False), fraction=1.0, seed=0)
@example(shape=(1, 1), share=1.0, rule=SRigLRule(), fraction=1.0, seed=0)
@example(shape=(1, 1), share=0.0, rule=SETRule(), fraction=1.0, seed=0)
@example(shape=(1, 4096), share=1.0, rule=SRigLRule(), fraction=0.3, seed=0)
@example(shape=(4096, 1), share=0.1, rule=MagnitudePruningRule(0.99), fraction=0.0, seed=0)
def test_an_update_has_exact_counts_and_moves_nothing_that_stays(shape, share, rule, fraction, seed):
    n_in, n_out = shape
    keys = np.flatnonzero(np.random.default_rng(seed).random(n_in * n_out) <= share)
    check_an_update(from_keys(n_in, n_out, keys), rule, fraction, seed)


@pytest.mark.parametrize(
    "rule", [RigLRule(), SETRule(), RigLVariantRule(may_return=False)], ids=lambda r: type(r).__name__
)
def test_so_has_an_update_of_a_layer_4096_wide_at_99_9_per_cent(rule):
    check_an_update(random_connectivity(4096, 4096), rule, 0.3, 1, storages=["csr"])


def test_set_drops_what_is_no_number_first():
    weight, generator = torch.linspace(-1, 1, 5000), torch.Generator()
    state = LayerState("layer", 1, 5000, 5000, 5000)
    connections = Connections(state, torch.arange(5000), weight, lambda: torch.zeros(5000))
    SETRule().drop_scores(connections, generator)  # leaves its scores behind in memory
    weight[[7, 4000]] = torch.nan
    assert select_top(-SETRule().drop_scores(connections, generator), 2).tolist() == [7, 4000]


class AllAlike(Rule):
    """No connection is better than another."""

    needs_gradient = False

    def drop_scores(self, connections, generator):
        return torch.zeros_like(connections.weight)

    def grow_scores(self, block, generator):
        return torch.zeros(block.mask.shape)


@pytest.mark.parametrize("storage", STORAGES)
@quick
@given(shape=shapes, share=st.floats(0, 1), fraction=fractions, seed=seeds)
def test_among_equal_scores_the_first_positions_stay_and_the_first_free_ones_grow(
    storage, shape, share, fraction, seed
):
    n_in, n_out = shape
    rng = np.random.default_rng(seed)
    keys = np.flatnonzero(rng.random(n_in * n_out) <= share)
    layer = sparse_linear(from_keys(n_in, n_out, keys), storage, seed=rng).view
    update_layer(layer, AllAlike(), fraction, None, torch.Generator())
    n = int(fraction * len(keys))
    kept = keys[: len(keys) - n]
    grown = np.setdiff1d(np.arange(n_in * n_out), kept)[:n]
    assert layer.active_positions().tolist() == sorted([*kept, *grown])
