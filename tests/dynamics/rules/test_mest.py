"""MEST: its drop score, and the density of the soft mutation."""

import pytest
import torch

from psn_lightning.dynamics import ConstantSchedule, MESTRule, StepSchedule, Update, update_network
from psn_lightning.errors import SettingError
from tests.helpers.layers import STORAGES
from tests.helpers.loops import Loop


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("gradient_weight", [0.0, 0.01, 100.0])
def test_what_is_dropped_has_the_smallest_weight_plus_gradient(storage, gradient_weight):
    loop = Loop(storage).train(3)
    loop.optimizer.zero_grad()
    loop.backward(3)
    expected = {}
    for name, layer in loop.layers.items():
        weight, gradient = layer.active_values(), layer.compress(layer.parameter.grad)
        scores = dict(enumerate((weight.abs() + gradient_weight * gradient.abs()).tolist()))
        lowest = sorted(scores, key=lambda i, s=scores: (s[i], -i))[: int(0.4 * len(scores))]
        expected[name] = set(layer.active_positions()[sorted(lowest)].tolist())
    before = {name: set(layer.active_positions().tolist()) for name, layer in loop.layers.items()}
    update_network(loop.layers, MESTRule(gradient_weight), Update(0.4), None, torch.Generator().manual_seed(0))
    for name, layer in loop.layers.items():
        after = set(layer.active_positions().tolist())
        assert before[name] - after <= expected[name]
        assert len(before[name] - after) > 0.7 * len(expected[name])  # few of them grow back at random
        assert len(after) == len(before[name])


@pytest.mark.parametrize("storage", STORAGES)
def test_soft_mutation_is_denser_until_the_end(storage):
    loop = Loop(storage, MESTRule(soft=True), StepSchedule(0.5, 10, 0, 160), skip_step_on_update=False)
    start = {name: int(mask.sum()) for name, mask in loop.masks().items()}
    surplus = []
    for _ in range(160):
        loop.step()
        surplus.append({name: int(mask.sum()) / start[name] - 1 for name, mask in loop.masks().items()})
    for name in start:
        shares = [step[name] for step in surplus]
        assert shares[5] == pytest.approx(0.5, abs=0.01)
        assert shares[85] == pytest.approx(0.5, abs=0.01)
        assert shares[95] == pytest.approx(0.25, abs=0.01)
        assert shares[125] == shares[-1] == 0


@pytest.mark.parametrize("storage", STORAGES)
def test_the_last_update_of_any_schedule_has_the_target(storage):
    loop = Loop(storage, MESTRule(soft=True), ConstantSchedule(0.5, 10, 0, 35), skip_step_on_update=False)
    start = {name: int(mask.sum()) for name, mask in loop.masks().items()}
    loop.train(36)
    assert {name: int(mask.sum()) for name, mask in loop.masks().items()} == start


def test_a_negative_weight_of_the_gradient_is_refused():
    with pytest.raises(SettingError, match="gradient_weight"):
        MESTRule(-1.0)
