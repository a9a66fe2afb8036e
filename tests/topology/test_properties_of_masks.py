"""What holds for every mask from 1 × 1 to 4096 × 4096, and for the figures about it."""

from dataclasses import asdict
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from psn_lightning.topology import Connectivity
from psn_lightning.topology.equilibrium import two_level_bound
from psn_lightning.topology.scaling import coefficient_of_variation
from psn_lightning.topology.statistics import (
    fan_in_ccv,
    gini,
    gradient_ratio,
    hub_order,
    mean_fan_in_ccv,
    overlap,
    realised_sparsity,
    summarize,
)
from tests.topology.drawing import at_the_corners, connectivities, from_keys, quick, random_connectivity, seeds, sizes

# --- connectivity


@quick
@at_the_corners
@given(connectivity=connectivities())
def test_a_saved_connectivity_is_loaded_again(connectivity, tmp_path_factory):
    path = tmp_path_factory.mktemp("connectivity") / "layer"
    connectivity.save(path)
    loaded = Connectivity.load(path)
    assert loaded == connectivity
    assert (loaded.digest(), hash(loaded)) == (connectivity.digest(), hash(connectivity))
    for name in ("indptr", "indices", "fan_in", "fan_out"):
        assert np.array_equal(getattr(loaded, name), getattr(connectivity, name))


@quick
@at_the_corners
@given(connectivity=connectivities(largest=512))
def test_a_mask_and_its_connectivity_say_the_same(connectivity):
    mask = connectivity.mask()
    assert Connectivity.from_mask(mask) == connectivity
    assert np.array_equal(np.flatnonzero(mask), connectivity.keys())
    assert connectivity.fan_in.sum() == connectivity.fan_out.sum() == connectivity.n_connections == mask.sum()
    assert np.array_equal(connectivity.rows() * connectivity.n_in + connectivity.indices, connectivity.keys())


@quick
@given(connectivity=connectivities(), data=st.data())
def test_one_connection_moved_makes_another_connectivity(connectivity, data):
    size = connectivity.n_in * connectivity.n_out
    assume(0 < connectivity.n_connections < size)
    keys = connectivity.keys()
    gone = data.draw(st.integers(0, len(keys) - 1))
    target = data.draw(st.integers(0, size - 1))
    assume(target not in keys)
    moved = np.sort(np.append(np.delete(keys, gone), target))
    other = from_keys(connectivity.n_in, connectivity.n_out, moved)
    assert other != connectivity
    assert overlap(other, connectivity) == pytest.approx(1 - 1 / len(keys))
    wider = Connectivity(connectivity.n_in + 1, connectivity.n_out, connectivity.indptr, connectivity.indices)
    taller = from_keys(connectivity.n_in, connectivity.n_out + 1, keys)
    assert len({c.digest() for c in (connectivity, other, wider, taller)}) == 4
    assert connectivity not in (wider, taller)


@quick
@given(connectivity=connectivities(), data=st.data())
def test_one_wrong_index_is_refused(connectivity, data):
    assume(connectivity.n_connections)
    place = data.draw(st.integers(0, connectivity.n_connections - 1))
    indices = connectivity.indices.copy()
    neighbour = data.draw(st.sampled_from([-1, connectivity.n_in, "duplicate"]))
    if neighbour == "duplicate":
        row = np.searchsorted(connectivity.indptr, place, side="right") - 1
        assume(connectivity.indptr[row] < place)
        indices[place] = indices[place - 1]
    else:
        indices[place] = neighbour
    with pytest.raises(ValueError, match="indices"):
        Connectivity(connectivity.n_in, connectivity.n_out, connectivity.indptr, indices)


# --- statistics


def permuted(connectivity, neurons, inputs):
    """Neuron i becomes ``neurons[i]``, input j becomes ``inputs[j]``."""
    keys = neurons[connectivity.rows()] * connectivity.n_in + inputs[connectivity.indices]
    return from_keys(connectivity.n_in, connectivity.n_out, np.sort(keys))


def another(connectivity):
    """Of the same shape."""
    return random_connectivity(connectivity.n_in, connectivity.n_out, n=1000, seed=5)


@quick
@at_the_corners
@given(connectivity=connectivities())
def test_the_order_of_neurons_and_inputs_changes_no_figure(connectivity):
    rng = np.random.default_rng(connectivity.n_connections)
    neurons, inputs = rng.permutation(connectivity.n_out), rng.permutation(connectivity.n_in)
    other = permuted(connectivity, neurons, inputs)
    assert asdict(summarize(other)) == pytest.approx(asdict(summarize(connectivity)), abs=1e-9)
    assert np.array_equal(other.fan_in[neurons], connectivity.fan_in)
    assert np.array_equal(other.fan_out[inputs], connectivity.fan_out)
    second = another(connectivity)
    assert overlap(other, permuted(second, neurons, inputs)) == overlap(connectivity, second)


@quick
@at_the_corners
@given(connectivity=connectivities())
def test_inequality_lies_within_its_bounds_and_copies_of_every_neuron_leave_it(connectivity):
    fan_in, n_out = connectivity.fan_in, connectivity.n_out
    ccv, inequality = fan_in_ccv(connectivity), gini(fan_in)
    assert -1e-12 <= inequality <= 1 - 1 / n_out + 1e-12
    assert ccv <= sqrt(n_out - 1) + 1e-9
    if connectivity.n_connections:
        assert ccv <= two_level_bound(max(0.0, realised_sparsity([connectivity]))) + 1e-9
        assert (
            (ccv == pytest.approx(0, abs=1e-9)) == (np.ptp(fan_in) == 0) == (inequality == pytest.approx(0, abs=1e-12))
        )
    assert gini(np.repeat(fan_in, 3)) == pytest.approx(inequality, abs=1e-9)
    assert coefficient_of_variation(np.repeat(fan_in, 3)) == pytest.approx(ccv)
    assert gini(5 * fan_in) == pytest.approx(inequality, abs=1e-9)
    assert coefficient_of_variation(5 * fan_in) == pytest.approx(ccv)


@quick
@given(n_in=sizes(high=256), n_out=sizes(high=256), share=st.floats(0, 1))
def test_the_two_level_bound_is_reached_by_full_neurons_beside_dead_ones(n_in, n_out, share):
    n_full = max(1, round(share * n_out))
    connectivity = Connectivity.from_fan_in(
        n_in, [n_in] * n_full + [0] * (n_out - n_full), np.tile(range(n_in), n_full)
    )
    assert fan_in_ccv(connectivity) == pytest.approx(two_level_bound(1 - n_full / n_out))
    assert gini(connectivity.fan_in) == pytest.approx(1 - n_full / n_out)


@quick
@at_the_corners
@given(connectivity=connectivities(largest=512))
def test_overlap_is_symmetric_and_a_share(connectivity):
    other = another(connectivity)
    share = overlap(connectivity, other)
    assert 0 <= share <= 1
    assert share == overlap(other, connectivity)
    assert overlap(connectivity, connectivity) == 1
    if connectivity.n_in * connectivity.n_out < 2**18:
        rest = Connectivity.from_mask(~connectivity.mask())
        assert overlap(connectivity, rest) == 0
        within = overlap(other, connectivity) * min(other.n_connections, connectivity.n_connections)
        without = overlap(other, rest) * min(other.n_connections, rest.n_connections)
        if connectivity.n_connections and rest.n_connections:
            assert within + without == pytest.approx(other.n_connections)


@quick
@at_the_corners
@given(connectivity=connectivities())
def test_hubs_and_specialists_are_all_neurons_the_hubs_being_larger(connectivity):
    fan_in = connectivity.fan_in
    hubs, specialists = hub_order(fan_in)
    assert len(hubs) == len(fan_in) // 2
    assert np.array_equal(np.sort(np.concatenate([hubs, specialists])), np.arange(len(fan_in)))
    ranked = np.concatenate([hubs, specialists])
    assert all(fan_in[a] > fan_in[b] or (fan_in[a] == fan_in[b] and a < b) for a, b in pairwise(ranked.tolist()))


@quick
@at_the_corners
@given(connectivity=connectivities())
def test_equal_gradients_leave_the_ratio_of_the_fan_in(connectivity):
    fan_in = connectivity.fan_in
    hubs, specialists = hub_order(fan_in)
    ratio, active = gradient_ratio(0.3 * fan_in, connectivity)
    if len(hubs) and fan_in[specialists].sum():
        assert ratio == pytest.approx(fan_in[hubs].mean() / fan_in[specialists].mean())
        assert active == pytest.approx(1)
    else:
        assert np.isnan(ratio)


@quick
@given(connectivity=connectivities(), seed=seeds, scale=st.floats(1e-6, 1e6))
def test_the_gradient_ratio_knows_neither_units_nor_names(connectivity, seed, scale):
    rng = np.random.default_rng(seed)
    magnitude = rng.random(connectivity.n_out) * (connectivity.fan_in > 0)
    expected = pytest.approx(gradient_ratio(magnitude, connectivity), nan_ok=True)
    assert gradient_ratio(scale * magnitude, connectivity) == expected
    neurons, inputs = np.arange(connectivity.n_out), rng.permutation(connectivity.n_in)
    assert gradient_ratio(magnitude, permuted(connectivity, neurons, inputs)) == expected
    if len(set(connectivity.fan_in.tolist())) == connectivity.n_out:  # no ties: neurons have no names either
        neurons = rng.permutation(connectivity.n_out)
        assert gradient_ratio(magnitude[neurons.argsort()], permuted(connectivity, neurons, inputs)) == expected


@quick
@given(layers=st.lists(connectivities(), min_size=1, max_size=4))
def test_sparsity_weighs_layers_by_their_size_and_the_mean_ccv_does_not(layers):
    places = [c.n_in * c.n_out for c in layers]
    expected = np.average([realised_sparsity([c]) for c in layers], weights=places)
    assert realised_sparsity(layers) == pytest.approx(expected, abs=1e-12)
    named = {str(i): c for i, c in enumerate(layers)}
    assert mean_fan_in_ccv(named) == pytest.approx(sum(map(fan_in_ccv, layers)) / len(layers))
