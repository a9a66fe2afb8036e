"""GraNet against two steps written out: prune over all layers, then RigL in each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import ConstantSchedule, GraNetRule, LayerState, RigLRule, Update, update_network
from psn_lightning.errors import SettingError
from tests.helpers.layers import STORAGES
from tests.helpers.loops import Loop


@settings(max_examples=25)
@given(progress=st.floats(0, 1), fraction=st.floats(0, 1), until=st.sampled_from([0.5, 1.0]), seed=st.integers(0, 99))
@pytest.mark.parametrize("storage", STORAGES)
def test_an_update_is_global_pruning_and_then_rigl(storage, progress, fraction, until, seed):
    ours, slow = Loop(storage), Loop(storage)
    for loop in (ours, slow):
        for layer in loop.layers.values():
            layer.record_dense_gradient = True
        loop.backward(seed)
    initial = {name: len(layer.active_positions()) for name, layer in slow.layers.items()}
    update_network(ours.layers, GraNetRule(0.95, until), Update(fraction, progress), None, torch.Generator())

    total, positions = sum(initial.values()), sum(layer.n_out * layer.n_in for layer in slow.layers.values())
    final = round(0.05 * positions)
    target = round(final + (total - final) * (1 - min(1.0, progress / until)) ** 3)
    magnitudes = [
        (-abs(w), i, name, p)
        for i, (name, layer) in enumerate(slow.layers.items())
        for p, w in zip(layer.active_positions().tolist(), layer.active_values().tolist(), strict=True)
    ]
    kept = {name: [] for name in slow.layers}
    for _, _, name, position in sorted(magnitudes)[:target]:
        kept[name].append(position)
    gradients = {name: layer.dense_gradient().clone() for name, layer in slow.layers.items()}
    for name, layer in slow.layers.items():
        layer.set_active(torch.tensor(sorted(kept[name]), dtype=torch.int64))
    update_network(
        slow.layers, RigLRule(), Update(fraction), None, torch.Generator(), None, lambda n, _: gradients[n].__getitem__
    )
    for name, mask in slow.masks().items():
        assert torch.equal(ours.masks()[name], mask)


def test_the_network_ends_at_its_final_sparsity_and_no_layer_has_to():
    loop = Loop("masked", GraNetRule(0.95), ConstantSchedule(0.3, 5, 5, 40)).train(40)
    counts = {name: int(mask.sum()) for name, mask in loop.masks().items()}
    sizes = {name: mask.numel() for name, mask in loop.masks().items()}
    assert sum(counts.values()) == round(0.05 * sum(sizes.values()))
    assert len({round(counts[name] / sizes[name], 3) for name in sizes}) > 1


def test_no_layer_is_emptied():
    loop = Loop("masked", GraNetRule(0.95), ConstantSchedule(0.3, 5, 5, 40))
    loop.layers["fc2"].set_values(1e-4 * loop.layers["fc2"].active_values())
    loop.optimizer.param_groups[0]["lr"] = 1e-7
    loop.train(40)
    counts = {name: int(mask.sum()) for name, mask in loop.masks().items()}
    assert counts["fc2"] == 1
    assert sum(counts.values()) == round(0.05 * sum(mask.numel() for mask in loop.masks().values()))


@pytest.mark.parametrize(
    ("rule", "n_initial", "match"),
    [(GraNetRule(0.5), 20, "initial sparsity 0.8000"), (GraNetRule(0.999), 100, "leaves 0 connections")],
)
def test_a_network_that_cannot_be_pruned_is_refused(rule, n_initial, match):
    with pytest.raises(SettingError, match=match):
        rule.check({"fc1": LayerState("fc1", 10, 10, n_initial, n_initial)})


@pytest.mark.parametrize("until", [0.0, 1.1])
def test_until_is_a_share(until):
    with pytest.raises(SettingError, match="until"):
        GraNetRule(0.9, until)
