"""Positions that have been active, against Python sets; resumed runs count on."""

import pytest
import torch

from psn_lightning.callbacks import SET, ExplorationMonitor
from psn_lightning.data import Digits
from tests.callbacks.test_dynamic import model, trainer


class Sets(torch.nn.Module):
    """Python sets of the positions of every step, filled by a forward hook."""

    def __init__(self, task):
        super().__init__()
        self.seen = {name: set() for name in task.network.sparse_layers()}
        task.network.register_forward_pre_hook(lambda *_: self.add(task))

    def add(self, task):
        for name, layer in task.network.sparse_layers().items():
            self.seen[name] |= set(layer.active_positions().tolist())


def test_the_share_is_that_of_a_set_union():
    task, monitor = model(), ExplorationMonitor()
    sets = Sets(task)
    loop = trainer(SET(period=10, end=1.0), monitor, max_steps=-1, max_epochs=3)
    loop.fit(task, Digits(batch_size=64))
    sets.add(task)
    for name, layer in task.network.sparse_layers().items():
        share = len(sets.seen[name]) / (layer.n_out * layer.n_in)
        assert float(loop.callback_metrics[f"topology/explored/{name}"]) == pytest.approx(share)
        assert share > layer.connectivity.n_connections / (layer.n_out * layer.n_in)


def test_nothing_is_logged_without_a_rule():
    loop = trainer(ExplorationMonitor(), max_steps=5)
    loop.fit(model(), Digits())
    assert not any(name.startswith("topology/explored") for name in loop.callback_metrics)


def test_a_resumed_run_remembers():
    first, second, task = ExplorationMonitor(), ExplorationMonitor(), model()
    trainer(SET(period=5, end=1.0), first).fit(task, Digits())
    second.load_state_dict(first.state_dict())
    assert second.state_dict().keys() == first.state_dict().keys()  # also where no training follows
    trainer(SET(period=1000), second, max_steps=1).fit(task, Digits())
    for name, marks in first.explored.items():
        assert torch.equal(second.explored[name], marks)
        assert marks.sum() > task.network.sparse_layers()[name].connectivity.n_connections
