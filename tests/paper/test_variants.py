"""Variants of RigL in a Trainer on the digits."""

import copy
from functools import cache
from itertools import product

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.callbacks import MaskReapply, RigL
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from psn_lightning.paper import RigLVariant
from tests.callbacks.test_dynamic import Watch, model, trainer
from tests.helpers.layers import STORAGES


def trained(callback, storage="masked", watch=None, steps=41):
    task = model(storage=storage)
    extra = [] if watch is None else [watch]
    fitted = trainer(callback, MaskReapply(), *extra, max_steps=steps)
    fitted.fit(task, Digits(batch_size=64))
    return task, fitted.optimizers[0]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_defaults_are_rigl(storage):
    variant, _ = trained(RigLVariant(period=10, end=1.0), storage)
    rigl, _ = trained(RigL(period=10, end=1.0), storage)
    for name, value in rigl.state_dict().items():
        assert torch.equal(value, variant.state_dict()[name])


CHOICES = [
    {"may_return": False},
    {"may_return": False, "sees_absent": False},
    {"drop_scope": "global"},
    {"grown_value": "initial"},
    {"moments": "reset"},
    {"gradient_steps": 5},
]


@cache
def rigl_of(storage, skip):
    """A network trained by RigL itself."""
    return trained(RigL(period=10, end=1.0, skip_step_on_update=skip), storage)[0]


@pytest.mark.parametrize(
    ("choice", "storage", "skip"),
    [*product(CHOICES, STORAGES, [True]), *product(CHOICES[-3:], ["masked"], [False])],  # of an update and of its step
)
def test_each_choice_gives_another_network_of_the_same_size(choice, storage, skip):
    watch = Watch()
    arguments = {"period": 10, "end": 1.0, "skip_step_on_update": skip}
    variant, _ = trained(RigLVariant(**arguments, **choice), storage, watch if storage == "masked" else None)
    rigl = rigl_of(storage, skip)
    layers = [task.network.sparse_layers().values() for task in (variant, rigl)]
    sizes = [[len(layer.active_positions()) for layer in network] for network in layers]
    assert sizes[0] == sizes[1]
    assert watch.stray == 0.0
    assert not all(torch.equal(a, b) for a, b in zip(variant.parameters(), rigl.parameters(), strict=True))


class Gradients(pl.Callback):
    """Records the dense gradient of each step, and the mask before the update."""

    def __init__(self):
        self.gradients = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        layer = pl_module.network.sparse_layers()["fc1"]
        if layer.record_dense_gradient:
            self.gradients.append((trainer.global_step, layer.dense_gradient().clone()))
            self.before = layer.mask.clone()


@pytest.mark.parametrize("storage", STORAGES)
def test_growth_sees_the_sum_of_the_gradients(storage):
    watch = Gradients()
    callback = RigLVariant(period=10, begin=10, end=1.0, gradient_steps=4, may_return=False)
    task = model(storage=storage)
    trainer(watch, callback, max_steps=11).fit(task, Digits(batch_size=64))
    steps = [step for step, _ in watch.gradients]
    assert steps == [7, 8, 9, 10]
    summed = sum(gradient for _, gradient in watch.gradients).abs()
    grown = task.network.sparse_layers()["fc1"].mask & ~watch.before
    candidates = ~watch.before
    assert int(grown.sum()) > 50
    assert float(summed[grown].min()) >= float(summed[candidates & ~grown].max())


class Saved(pl.Callback):
    """Records the state of a callback after eight steps."""

    def __init__(self, callback):
        self.callback = callback

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 8:
            self.state = copy.deepcopy(self.callback.state_dict())


def test_the_sums_are_in_the_checkpoint():
    callback, other = (RigLVariant(period=10, begin=10, end=1.0, gradient_steps=5) for _ in range(2))
    saved = Saved(callback)
    trained(callback, watch=saved, steps=12)  # the sum for step 10 begins at step 6
    (state,) = saved.state["updaters"]
    assert {name: bool(total.any()) for name, total in state["sums"].items()} == {"fc1": True, "fc2": True}
    other.load_state_dict(copy.deepcopy(saved.state))
    (restored,) = other.state_dict()["updaters"]
    assert all(torch.equal(restored["sums"][name], total) for name, total in state["sums"].items())


def test_gradient_steps_below_1_are_refused():
    with pytest.raises(SettingError, match="gradient_steps 0"):
        RigLVariant(gradient_steps=0)
