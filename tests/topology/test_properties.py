"""What holds for spreading, allocation and whole networks, from 1 × 1 to 4096 × 4096, and for settlements."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology import Topology, Uniform, allocate, spread
from psn_lightning.topology.equilibrium import TOLERANCE, TURNOVER, Trajectory, settlement
from tests.topology.drawing import quick, seeds, sizes

# --- spreading


def drawn_fan_in(n_in, n_out, seed):
    """Of every kind, dead and dense neurons among them, 65,536 connections at most."""
    rng = np.random.default_rng(seed)
    ceiling = min(n_in, max(1, 2**16 // n_out))
    fan_in = rng.integers(ceiling + 1, size=n_out)
    fan_in[rng.integers(n_out, size=2)] = 0, n_in
    return fan_in


@pytest.mark.parametrize("spreading", ["even", "random", "sequential"])
@quick
@given(n_in=sizes(), n_out=sizes(), seed=seeds)
@example(n_in=1, n_out=1, seed=0)
@example(n_in=1, n_out=4096, seed=0)
@example(n_in=4096, n_out=1, seed=0)
@example(n_in=4096, n_out=4096, seed=0)
def test_spreading_gives_the_fan_in_asked_for_without_duplicates_and_in_bounds(spreading, n_in, n_out, seed):
    fan_in = drawn_fan_in(n_in, n_out, seed)
    connectivity = spread(fan_in, n_in, spreading, np.random.default_rng(seed))
    assert (connectivity.n_in, connectivity.n_out) == (n_in, n_out)
    assert np.array_equal(connectivity.fan_in, fan_in)
    inputs, neurons = connectivity.indices, np.repeat(np.arange(n_out), fan_in)
    assert ((inputs >= 0) & (inputs < n_in)).all()
    assert len(set(zip(neurons.tolist(), inputs.tolist(), strict=True))) == fan_in.sum()
    assert connectivity == spread(fan_in, n_in, spreading, np.random.default_rng(seed))
    if spreading == "sequential":
        assert np.array_equal(connectivity.fan_out, [(fan_in > position).sum() for position in range(n_in)])


@quick
@given(n_in=sizes(), k=st.floats(0, 1), step=st.integers(1, 4096), neuron=st.integers(0, 200))
@example(n_in=4096, k=1.0, step=4095, neuron=200)
def test_even_spaces_the_inputs_of_a_neuron_as_equally_as_whole_numbers_can(n_in, k, step, neuron):
    k = max(1, round(k * n_in))
    step = step % k
    inputs = spread(np.full(neuron + 1, k), n_in, "even", np.random.default_rng(0)).indices[-k:]
    around = np.concatenate([inputs, inputs + n_in])
    distances = around[step : step + k] - around[:k]
    assert set(distances.tolist()) <= {step * n_in // k, -(-step * n_in // k)}


@quick
@given(n_in=sizes(), n_out=sizes())
@example(n_in=4096, n_out=4096)
@example(n_in=1, n_out=4096)
def test_even_gives_neurons_of_one_input_to_all_inputs_alike(n_in, n_out):
    fan_out = spread(np.ones(n_out, dtype=np.int64), n_in, "even", np.random.default_rng(0)).fan_out
    assert np.abs(fan_out - n_out / n_in).max() < 4


# --- allocation

kernels = st.tuples(sizes(), sizes(), st.integers(1, 7), st.integers(1, 7))
some_shapes = st.lists(st.one_of(st.tuples(sizes(), sizes()), kernels), min_size=1, max_size=6)


@pytest.mark.parametrize("allocation", ["uniform", "er", "erk"])
@quick
@given(shapes=some_shapes, dense=some_shapes, sparsity=st.floats(0, 0.9999), denser=st.floats(0, 1), seed=seeds)
@example(shapes=[(1, 1)], dense=[(1, 1)], sparsity=0.25, denser=0.5, seed=0)
@example(shapes=[(4096, 4096), (1, 1), (1, 4096)], dense=[(1, 1)], sparsity=0.999, denser=0.0, seed=0)
def test_allocation_spends_the_budget_whatever_is_dense(allocation, shapes, dense, sparsity, denser, seed):
    fixed, total = sum(map(prod, dense)), sum(map(prod, [*shapes, *dense]))
    budget = (1 - sparsity) * total - fixed
    if budget <= 0:
        with pytest.raises(UnreachableError, match=f"has {fixed} connections"):
            allocate(shapes, sparsity, allocation, dense)
        return
    densities = allocate(shapes, sparsity, allocation, dense)
    assert all(0 < density <= 1 for density in densities)
    assert sum(d * prod(s) for d, s in zip(densities, shapes, strict=True)) == pytest.approx(budget, abs=1e-6)
    more = allocate(shapes, denser * sparsity, allocation, dense)
    assert all(a <= b * (1 + 1e-9) for a, b in zip(densities, more, strict=True))
    order = np.random.default_rng(seed).permutation(len(shapes))
    assert allocate([shapes[i] for i in order], sparsity, allocation, dense) == pytest.approx(
        [densities[i] for i in order], rel=1e-6
    )


# --- whole networks


@pytest.mark.filterwarnings("ignore:.*target sparsity")  # a layer of few connections cannot be on target
@quick
@given(
    layer_sizes=st.lists(sizes(high=300), min_size=3, max_size=5),
    share=st.floats(0, 1),
    allocation=st.sampled_from(["uniform", "er", "erk"]),
    budget=st.sampled_from(["hidden", "network"]),
    spreading=st.sampled_from(["even", "random", "sequential"]),
    seed=st.integers(0, 999),
)
@example([1, 1, 1], 1.0, "erk", "network", "even", 0)
@example([4096, 4096, 1], 0.99925, "uniform", "hidden", "even", 0)
@example([1, 4096, 1], 1.0, "er", "hidden", "random", 0)
def test_a_network_spends_what_was_asked_for(layer_sizes, share, allocation, budget, spreading, seed):
    sparsity = share * (1 - 1 / min(layer_sizes[:-1]))
    topology = Topology(Uniform(), sparsity, allocation, budget=budget)
    try:
        layers = topology.connect(layer_sizes, spreading, seed)
    except SettingError:
        assert sparsity > 0
        return
    assert [(c.n_in, c.n_out) for c in layers] == list(pairwise(layer_sizes))[:-1]
    places = [a * b for a, b in pairwise(layer_sizes)]
    counted = sum(places) if budget == "network" else sum(places[:-1])
    spent = sum(c.n_connections for c in layers) + (places[-1] if budget == "network" else 0)
    assert spent == pytest.approx((1 - sparsity) * counted, abs=len(layers) / 2 + 1e-6)
    assert all(c.fan_in.min() >= 1 for c in layers)
    assert topology.connect(layer_sizes, spreading, seed) == layers


# --- equilibrium

shares = st.integers(0, 64).map(lambda n: n / 64)  # add up without rounding
ccvs = st.one_of(st.floats(0, 10), st.floats(1, 1.12))  # within twice the tolerance of each other
trajectories = st.lists(st.tuples(ccvs, shares), min_size=1, max_size=40)


def settled(updates):
    return settlement(Trajectory([*range(len(updates))], [ccv for ccv, _ in updates], [share for _, share in updates]))


@quick
@given(updates=trajectories)
def test_a_settlement_is_decided_by_the_fewest_updates_that_make_up_the_turnover(updates):
    result = settled(updates)
    values, contested = zip(*updates[result.first :], strict=True)
    assert min(values) - 1e-9 <= result.ccv <= max(values) + 1e-9
    assert result.drift * result.ccv == pytest.approx(max(values) - min(values), abs=1e-9) or result.ccv == 0
    turnover = sum(contested)
    assert turnover - contested[0] < TURNOVER  # one update fewer would not do
    if result.first > 0:
        assert turnover >= TURNOVER
    assert result.converged == (turnover >= TURNOVER and result.drift <= TOLERANCE)


@quick
@given(updates=trajectories, earlier=trajectories, scale=st.floats(0.1, 10))
def test_neither_the_past_nor_the_unit_decides_a_settlement(updates, earlier, scale):
    result = settled(updates)
    assume(abs(result.drift - TOLERANCE) > 1e-9)
    scaled = settled([(scale * ccv, share) for ccv, share in updates])
    assert (scaled.first, scaled.converged) == (result.first, result.converged)
    assert (scaled.ccv, scaled.drift) == (pytest.approx(scale * result.ccv), pytest.approx(result.drift))
    if sum(share for _, share in updates) >= TURNOVER:
        longer = settled(earlier + updates)
        assert longer.first == result.first + len(earlier)
        assert (longer.ccv, longer.drift, longer.converged) == (result.ccv, result.drift, result.converged)
