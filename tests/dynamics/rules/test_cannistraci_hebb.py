"""Cannistraci-Hebb scores against the enumeration of paths and nodes; percolation against its definition."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.dynamics.rules.cannistraci_hebb import LinkScores, percolate, sum_paths_densely
from psn_lightning.dynamics.views import LayerState
from psn_lightning.errors import SettingError
from psn_lightning.kernels.paths import PathSums

graphs = st.builds(
    lambda n_out, n_in, density, seed: np.random.default_rng(seed).random((n_out, n_in)) < density,
    st.integers(1, 12),
    st.integers(1, 15),
    st.floats(0.05, 0.7),
    st.integers(0, 999),
)


def enumerate_scores(links, score):
    """Scores of the absent links, from sets of neighbours."""
    inputs = [set(np.flatnonzero(row)) for row in links]
    neurons = [set(np.flatnonzero(column)) for column in links.T]
    scores = {}
    for u, v in zip(*np.nonzero(~links), strict=True):
        paths = [(z1, z2) for z1 in inputs[u] for z2 in neurons[v] if z1 in inputs[z2]]
        first, second = {z1 for z1, _ in paths}, {z2 for _, z2 in paths}
        # Links of a node of the community: to the community, and to nodes that are neither in it nor u or v.
        inside = {("in", z): len(neurons[z] & second) for z in first} | {
            ("out", z): len(inputs[z] & first) for z in second
        }
        outside = {("in", z): len(neurons[z] - second - {u}) for z in first}
        outside |= {("out", z): len(inputs[z] - first - {v}) for z in second}
        if score == "CH3-L3p":
            total = sum(1 / math.sqrt((1 + outside["in", a]) * (1 + outside["out", b])) for a, b in paths)
        else:
            total = sum((1 + inside[z] if score == "CH2-L3n" else 1) / (1 + outside[z]) for z in inside)
        scores[u, v] = total
    return scores


@pytest.mark.parametrize("score", ["CH3-L3p", "CH3-L3n", "CH2-L3n"])
@given(links=graphs)
def test_scores_are_those_of_the_enumeration(score, links):
    scores = LinkScores(torch.from_numpy(links).double(), score)
    half = len(links) // 2
    blocks = torch.cat([scores.compute(slice(0, half)), scores.compute(slice(half, len(links)))])
    for (u, v), expected in enumerate_scores(links, score).items():
        assert float(blocks[u, v]) == pytest.approx(expected, rel=1e-12)


@given(links=graphs, seed=st.integers(0, 99))
def test_paths_are_summed_alike_with_and_without_numba(links, seed):
    rng, (n_out, n_in), first = np.random.default_rng(seed), links.shape, len(links) // 3
    of_neurons, of_inputs = rng.random((n_out - first, n_out)), rng.random((n_in, n_in))
    graph = links.astype(float)
    compiled = PathSums(graph, of_inputs).compute(first, of_neurons)
    plain = sum_paths_densely(torch.from_numpy(graph), first, torch.from_numpy(of_neurons), torch.from_numpy(of_inputs))
    np.testing.assert_allclose(compiled, plain.numpy(), rtol=1e-12, atol=1e-15)


def test_an_unknown_score_is_refused():
    with pytest.raises(SettingError, match="CH3-L3p"):
        LinkScores(torch.ones(2, 2).double(), "CH4")


chains = st.tuples(
    st.lists(st.integers(1, 7), min_size=2, max_size=5),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
    st.floats(0.02, 0.6),
    st.integers(0, 999),
)


def draw_chain(widths, kernels, density, seed):
    """Masks of layers that feed each other; an input of a layer has as many positions as its kernel."""
    rng = np.random.default_rng(seed)
    masks, layers = {}, {}
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        positions = n_in * (kernels[i] if i else 1)
        masks[f"l{i}"] = rng.random((n_out, positions)) < density
        layers[f"l{i}"] = LayerState(f"l{i}", n_out, positions, int(masks[f"l{i}"].sum()), 0)
    return masks, layers


def percolate_slowly(masks, layers, fixed=()):
    """Remove links at neurons that have links on one side only, until nothing changes."""
    masks = {name: mask.copy() for name, mask in masks.items()}
    changed = True
    while changed:
        changed = False
        for name, following in pairwise(layers):
            before = masks[name]
            after = masks[following].reshape(len(masks[following]), len(before), -1)
            for z in range(len(before)):
                if before[z].any() != after[:, z].any():
                    for links, layer in ((before[z], name), (after[:, z], following)):
                        changed |= bool(links.any()) and layer not in fixed
                        links[:] &= layer in fixed
    return masks


def positions_of(masks):
    return {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in masks.items()}


@given(chains, st.sets(st.sampled_from(["l0", "l1", "l2", "l3"])))
def test_percolation_reaches_the_fixed_point(chain, fixed):
    masks, layers = draw_chain(*chain)
    found = percolate(positions_of(masks), layers, [list(layers)], fixed)
    for name, mask in percolate_slowly(masks, layers, fixed).items():
        assert found[name].tolist() == np.flatnonzero(mask).tolist()


def test_a_layer_that_is_not_updated_counts_as_connected():
    masks, layers = draw_chain([6, 5, 4, 5, 3], [1] * 4, 0.2, 0)
    kept = positions_of({name: mask for name, mask in masks.items() if name != "l1"})
    found = percolate(kept, layers, [list(layers)])
    assert found["l0"].tolist() == kept["l0"].tolist()
    pair = percolate_slowly({name: masks[name] for name in ("l2", "l3")}, ["l2", "l3"])
    assert found["l2"].tolist() == np.flatnonzero(pair["l2"]).tolist()
