"""Cost of training: counts by hand, for every way in which the number of connections may change."""

import math

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning import SNIP
from psn_lightning.callbacks import GMP, STR, Prune, RigL, TopKAST, TrainingCost
from psn_lightning.callbacks.training_cost import count_rows
from psn_lightning.data import Digits
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Uniform
from tests.helpers.models import ACCELERATOR

ROWS = 1437  # of the digits' training split
POSITIONS = 64 * 48 + 48 * 32


class Watch(pl.Callback):
    """Counts the slow way: the mask of every pass, and whether its gradient was dense."""

    def __init__(self):
        self.connections, self.flops = [], 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rows = len(batch[0])

    def on_after_backward(self, trainer, pl_module):
        layers = pl_module.sparse_layers().values()
        self.connections.append(sum(int(layer.mask.sum()) for layer in layers))
        for layer in layers:
            active, places = int(layer.mask.sum()), layer.n_in * layer.n_out
            trained = getattr(layer, "trained", None)
            own = active if trained is None else int(trained.sum())
            self.flops += self.rows * (4 * active + 2 * (places if layer.record_dense_gradient else own))


def train(*callbacks, sparsity=0.8, storage="masked"):
    cost = TrainingCost()
    task = SparseClassifier(64, 10, hidden=[48, 32], topology=Uniform(), sparsity=sparsity, storage=storage)
    trainer = pl.Trainer(
        callbacks=[*callbacks, cost],
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator=ACCELERATOR if storage == "masked" else "cpu",
        devices=1,
    )
    trainer.fit(task, Digits(batch_size=64))
    return trainer, cost


def logged(trainer, name):
    return float(trainer.callback_metrics[f"cost/{name}"])


def test_a_static_network_costs_six_operations_per_connection_and_row():
    trainer, _ = train(sparsity=0.75)
    connections = round(0.25 * POSITIONS)
    assert logged(trainer, "connections") == connections
    assert logged(trainer, "density") == pytest.approx(0.25, abs=1e-3)
    assert logged(trainer, "flops") == pytest.approx(6 * connections * 2 * ROWS)


@pytest.mark.parametrize("storage", ["masked", "csr"])
@pytest.mark.parametrize(
    ("callback", "sparsity"), [(RigL, 0.8), (GMP, 0.0), (lambda **_: Prune(SNIP(), 0.9, at=[0, 12, 30]), 0.0)]
)
def test_whatever_varies_is_counted_as_it_is(callback, sparsity, storage):
    watch = Watch()
    trainer, _ = train(callback(period=5), watch, sparsity=sparsity, storage=storage)
    assert len(set(watch.connections)) > 1 or sparsity
    assert logged(trainer, "connections") == pytest.approx(sum(watch.connections) / len(watch.connections))
    assert logged(trainer, "flops") == pytest.approx(watch.flops)
    if sparsity:  # the gradient to absent connections is in it
        assert watch.flops > 6 * watch.connections[0] * 2 * ROWS


@pytest.mark.parametrize("callback", [TopKAST(0.9, 0.7, period=5), STR(-4.0)])
def test_positions_that_train_are_counted_beside_those_that_compute(callback):
    watch = Watch()
    trainer, _ = train(callback, watch, sparsity=0.0)
    assert logged(trainer, "connections") == pytest.approx(sum(watch.connections) / len(watch.connections))
    assert logged(trainer, "flops") == pytest.approx(watch.flops)
    assert watch.flops > 6 * sum(watch.connections[:-1]) * 64


def test_another_fit_counts_from_zero():
    trainer, cost = train()
    before = logged(trainer, "flops")
    task = SparseClassifier(64, 10, hidden=[48, 32], topology=Uniform(), sparsity=0.8)
    again = pl.Trainer(max_epochs=1, callbacks=[cost], logger=False, enable_checkpointing=False, accelerator="cpu")
    again.fit(task, Digits(batch_size=64))
    assert logged(again, "flops") == pytest.approx(before / 2)


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ((torch.zeros(5, 2), torch.zeros(5)), 5),
        ({"weight": torch.tensor(1.0), "x": [torch.zeros(4)]}, 4),
        (["text"], math.nan),
        (None, math.nan),
    ],
)
def test_rows_of_a_batch_of_any_kind(batch, rows):
    assert count_rows(batch) == pytest.approx(rows, nan_ok=True)
