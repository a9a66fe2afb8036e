"""AC/DC: counts of every phase, and the weights that return."""

import pytest
import torch

from psn_lightning.dynamics import ACDCRule, ConstantSchedule, LayerState
from psn_lightning.errors import SettingError
from tests.helpers.layers import STORAGES
from tests.helpers.loops import Loop


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("n_updates", [4, 5])
def test_phases_alternate_and_the_last_is_sparse(storage, n_updates):
    loop = Loop(storage, ACDCRule(0.9), ConstantSchedule(1.0, 5, 5, 5 + 5 * n_updates), skip_step_on_update=False)
    positions = sum(layer.n_out * layer.n_in for layer in loop.layers.values())
    counts = []
    for step in range(5 + 5 * n_updates):
        absent = {name: ~mask for name, mask in loop.masks().items()}
        loop.optimizer.zero_grad()
        loop.backward(step)
        loop.updater.before_step()
        for name, layer in loop.layers.items():
            values = torch.zeros(layer.mask.shape, dtype=torch.float64)
            values[layer.mask] = layer.active_values()
            assert not values[absent[name]].any()  # of what returns, before the optimizer's step
        loop.optimizer.step()
        counts.append(sum(int(mask.sum()) for mask in loop.masks().values()))
    sparse = round(0.1 * positions)
    phases = [counts[5 * k + 2] for k in range(1, n_updates + 1)]
    assert counts[2] == positions
    assert phases == [sparse if (n_updates - k) % 2 else positions for k in range(n_updates)]
    assert counts[-1] == sparse


def test_what_is_kept_is_largest_in_the_whole_network():
    loop = Loop("masked", ACDCRule(0.9), ConstantSchedule(1.0, 5, 5, 6), skip_step_on_update=False)
    weights = {}
    for _ in range(6):
        weights = {name: layer.parameter.detach().abs().clone() for name, layer in loop.layers.items()}
        loop.step()
    kept = torch.cat([weights[name][mask] for name, mask in loop.masks().items()])
    gone = torch.cat([weights[name][~mask] for name, mask in loop.masks().items()])
    assert kept.min() >= gone.max()


def test_a_sparse_start_is_refused():
    with pytest.raises(SettingError, match="start dense"):
        ACDCRule(0.9).check({"fc1": LayerState("fc1", 10, 10, 50, 50)})
