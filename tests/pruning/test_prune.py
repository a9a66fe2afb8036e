"""Pruning any module: exact counts, controls, refusals."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning import Grouped, sparse_layers, sparsify
from psn_lightning.errors import SettingError
from psn_lightning.pruning import OBD, SNIP, GraSP, Magnitude, RandomScores, Saliency, SynFlow, prune
from psn_lightning.pruning.prune import _count_rounds
from tests.pruning.networks import batch, conv_net, images, mlp, sparse_mlp


def masks_of(module):
    return {name: layer.mask.clone() for name, layer in sparse_layers(module).items()}


@given(st.floats(0, 0.9), st.sampled_from(["network", "layer"]), st.integers(1, 5), st.integers(0, 3))
def test_counts_are_exact(sparsity, scope, rounds, seed):
    module = mlp((9, 8, 7, 5), seed=seed)
    prune(module, RandomScores(), sparsity, scope=scope, rounds=rounds, seed=seed)
    counts = [int(mask.sum()) for mask in masks_of(module).values()]
    sizes = [9 * 8, 8 * 7, 7 * 5]
    if scope == "layer":
        assert counts == [round((1 - sparsity) * size) for size in sizes]
    else:
        assert sum(counts) == round((1 - sparsity) * sum(sizes))


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(1, 30))
def test_rounds_go_down_geometrically_and_end_exactly(size, sparsity, rounds):
    chain = _count_rounds({"a": torch.ones(size, 3, dtype=torch.bool)}, sparsity, "network", rounds)
    counts = [step[""] for step in chain]
    assert counts[-1] == round((1 - sparsity) * 3 * size)
    assert counts == sorted(counts, reverse=True)
    if counts[-1]:
        whole = [3 * size, *counts]
        middle = whole[len(whole) // 2]
        exponent = (len(whole) // 2) / rounds
        assert middle == pytest.approx(3 * size * (counts[-1] / (3 * size)) ** exponent, abs=0.51)


@dataclass(frozen=True)
class Ties(Saliency):
    """Few different scores, and NaN, which counts as the lowest."""

    def scores(self, twin, batches, generator):
        found = {name: (torch.arange(mask.numel()) % 3).double().view(mask.shape) for name, mask in twin.masks.items()}
        found["0"][0, 2] = torch.nan
        return found


def test_the_highest_scores_stay_and_ties_go_to_the_front():
    module = mlp((6, 2, 6))
    prune(module, Ties(), 0.75)  # of 24 positions 6 stay, of which 7 have score 2
    kept = [position for layer in sparse_layers(module).values() for position in layer.active_positions().tolist()]
    assert kept == [5, 8, 11, 2, 5, 8]


@pytest.mark.parametrize("saliency", [Magnitude(), SNIP(), GraSP(), SynFlow(), OBD(), RandomScores()])
def test_storages_get_the_same_masks_and_keep_their_weights(saliency):
    found = []
    for storage in ("masked", "csr"):
        network = sparse_mlp(storage)
        before = {name: layer.parameter.detach().clone() for name, layer in sparse_layers(network).items()}
        prune(network, saliency, 0.75, [batch()])
        found.append(masks_of(network))
        for name, layer in sparse_layers(network).items():
            if storage == "masked":
                assert torch.equal(layer.parameter[layer.mask], before[name][layer.mask])
                assert not layer.parameter[~layer.mask].any()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("saliency", [Magnitude(), SNIP(), GraSP(), SynFlow(), OBD(), RandomScores()])
def test_it_works_on_convolutions_and_attention(saliency):
    module = conv_net()
    table = prune(module, saliency, 0.5, [images()], exclude=["head"])
    assert [row.name for row in table.rows] == ["conv", "attention.in_proj_weight", "attention.out_proj"]
    assert sum(row.connections for row in table.rows) == round(0.5 * (16 + 48 + 16))
    assert torch.isfinite(module(images()[0])).all()


def test_pruning_again_takes_from_what_is_left():
    module = mlp((20, 20, 20, 3))
    prune(module, Magnitude(), 0.5, exclude=["6"])
    first = masks_of(module)
    prune(module, SNIP(), 0.8, [batch(n_in=20)])
    for name, mask in masks_of(module).items():
        assert not (mask & ~first[name]).any()
    with pytest.raises(SettingError, match="pruning adds none"):
        prune(module, Magnitude(), 0.5)


@pytest.mark.parametrize("shuffle", ["positions", "inputs"])
def test_controls_keep_the_counts_and_move_the_connections(shuffle):
    plain, control = mlp((30, 20, 20, 3)), mlp((30, 20, 20, 3))
    prune(plain, SNIP(), 0.8, [batch(n_in=30)], exclude=["6"])
    prune(control, SNIP(), 0.8, [batch(n_in=30)], exclude=["6"], shuffle=shuffle)
    for before, after in zip(masks_of(plain).values(), masks_of(control).values(), strict=True):
        assert before.sum() == after.sum()
        assert not torch.equal(before, after)
        assert torch.equal(before.sum(dim=1), after.sum(dim=1)) == (shuffle == "inputs")


def test_redrawn_weights_have_the_same_mask():
    plain, redrawn = mlp((30, 20, 3)), mlp((30, 20, 3))
    prune(plain, Magnitude(), 0.8)
    prune(redrawn, Magnitude(), 0.8, redraw="mean_fan_in")
    for a, b in zip(sparse_layers(plain).values(), sparse_layers(redrawn).values(), strict=True):
        assert torch.equal(a.mask, b.mask)
        assert not torch.equal(a.active_values(), b.active_values())


def test_moments_follow():
    module = mlp((20, 20, 3))
    sparsify(module, 0.0, allocation="uniform")
    optimizer = torch.optim.Adam(module.parameters())
    torch.nn.functional.cross_entropy(module(batch(n_in=20)[0]), batch(n_in=20)[1]).backward()
    optimizer.step()
    before = optimizer.state[module[0].weight]["exp_avg"].clone()
    prune(module, Magnitude(), 0.7, optimizers=[optimizer])
    mask, after = sparse_layers(module)["0"].mask, optimizer.state[module[0].weight]["exp_avg"]
    assert torch.equal(after, before.where(mask, 0))


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"sparsity": 1.0}, "sparsity 1"),
        ({"scope": "model"}, "scope 'model'"),
        ({"rounds": 0}, "rounds 0"),
        ({"shuffle": "all"}, "shuffle 'all'"),
        ({"include": ["nothing"]}, "nothing"),
    ],
)
def test_settings_that_cannot_be(arguments, culprit):
    with pytest.raises(SettingError, match=culprit):
        prune(mlp(), Magnitude(), **{"sparsity": 0.5, **arguments})


def test_include_is_for_dense_modules():
    module = mlp()
    prune(module, Magnitude(), 0.5)
    with pytest.raises(SettingError, match="sparse already"):
        prune(module, Magnitude(), 0.7, include=["0"])


class WandaLike(Saliency):
    """A saliency of a user's own: |w| times the norm of the input."""

    batches = 1

    def scores(self, twin, batches, generator):
        x, _ = batches[0]
        first = next(iter(twin.weights))
        norms = {first: x.double().norm(dim=0)}
        return {name: w.detach().abs() * norms.get(name, 1.0) for name, w in twin.weights.items()}


def test_a_saliency_of_ones_own():
    x, y = batch(20, 6)
    x[:, 2] *= 100
    module = mlp((6, 5, 3))
    prune(module, WandaLike(), 0.8, [(x, y)], scope="layer")
    assert sparse_layers(module)["0"].mask[:, 2].all()


@pytest.mark.filterwarnings("ignore:.*connections of groups")
def test_neurons_that_share_inputs_are_pruned_one_by_one_or_not_at_all():
    masked, groups = mlp((9, 8, 8, 4)), mlp((9, 8, 8, 4))
    sparsify(masked, 0.5, Grouped(4))
    sparsify(groups, 0.5, Grouped(4), storage="groups")
    prune(masked, Magnitude(), 0.8)
    assert all(layer.groups is None for layer in sparse_layers(masked).values())
    before = masks_of(groups)
    with pytest.raises(SettingError, match="share their inputs"):
        prune(groups, Magnitude(), 0.8)
    assert all(torch.equal(mask, before[name]) for name, mask in masks_of(groups).items())
