"""Which metric decides what the best checkpoint is, of any module."""

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.callbacks import GMP, MEST
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.data import Digits
from psn_lightning.task import SparseClassifier
from tests.helpers.models import Plain, TwoLayerTransformer, batches, trainer


class Scripted(Plain):
    """Logs given values, one for each epoch."""

    def __init__(self, values):
        super().__init__(TwoLayerTransformer())
        self.values = values

    def validation_step(self, batch, batch_idx):
        for name, values in self.values.items():
            self.log(name, torch.tensor(values[self.current_epoch]))


def best_epoch(folder, values, *callbacks, **arguments):
    checkpoints = BestAndLast(**arguments)
    run = trainer(
        checkpoints, *callbacks, max_epochs=3, limit_train_batches=1, enable_checkpointing=True,
        default_root_dir=folder, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = batches("transformer", 1)
    run.fit(Scripted(values), loader, loader)
    return torch.load(checkpoints.best_model_path, weights_only=False)["epoch"], checkpoints.monitor


@pytest.mark.parametrize(
    ("values", "arguments", "expected"),
    [
        ({"val_loss": [3.0, 1.0, 2.0]}, {}, (1, "val_loss")),
        ({"val_loss": [3.0, 1.0, 2.0], "val_acc": [0.9, 0.5, 0.6]}, {}, (0, "val_acc")),
        ({"valid/error": [0.3, 0.2, 0.1], "score": [0.1, 0.3, 0.2]}, {"monitor": "score"}, (1, "score")),
        ({"score": [0.1, 0.3, 0.2]}, {"monitor": "score", "mode": "min"}, (0, "score")),
        ({"val_mse": [3.0, 1.0, 2.0]}, {}, (1, "val_mse")),
        ({"score": [0.1, 0.3, 0.2]}, {}, (2, None)),  # nothing to go by: the last
    ],
)
def test_the_best_checkpoint(values, arguments, expected, tmp_path):
    assert best_epoch(tmp_path, values, **arguments) == expected


class Densities(pl.Callback):
    """Method whose network has its final density from an epoch on."""

    def __init__(self, first):
        self.first, self.is_at_target = first, False

    def on_train_epoch_start(self, trainer, pl_module):
        self.is_at_target = trainer.current_epoch >= self.first


@pytest.mark.parametrize(("first", "expected"), [(0, 0), (1, 1), (2, 2), (3, 2)])
def test_a_network_that_was_denser_is_not_the_best(first, expected, tmp_path):
    assert best_epoch(tmp_path, {"val_acc": [0.9, 0.8, 0.7]}, Densities(first)) == (expected, "val_acc")


def test_a_resumed_run_knows_that_the_best_was_denser(tmp_path):
    values, loader, folders = {"val_acc": [0.9, 0.8, 0.7]}, batches("transformer", 1), (tmp_path / "a", tmp_path / "b")
    arguments = {"limit_train_batches": 1, "enable_checkpointing": True, "num_sanity_val_steps": 0}
    first = BestAndLast()
    trainer(first, Densities(1), max_epochs=1, default_root_dir=folders[0], **arguments).fit(
        Scripted(values), loader, loader
    )
    second = BestAndLast()
    trainer(second, Densities(1), max_epochs=3, default_root_dir=folders[1], **arguments).fit(
        Scripted(values), loader, loader, ckpt_path=first.last_model_path, weights_only=False
    )
    assert float(second.best_model_score) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("callback", "dense_start"), [(GMP(0.9, period=10, end=30), True), (MEST(soft=True, period=10, end=30), False)]
)
def test_methods_say_when_they_are_at_their_target(callback, dense_start):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(callback.is_at_target)

    run = trainer(callback, Watch(), max_steps=40, max_epochs=-1)
    run.fit(SparseClassifier(64, 10, hidden=[32], sparsity=0.0 if dense_start else 0.8), Digits(batch_size=64))
    last = callback.window.last
    assert seen == [step >= last for step in range(40)]
