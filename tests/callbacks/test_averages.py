"""Averages of weights stay sparse, and follow the connections."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from psn_lightning import STR, Grouped, MaskReapply, RigL, Sparsify, TopKAST, sparse_layers
from psn_lightning.callbacks.averages import find_average_models
from tests.helpers.models import batches, plain, trainer

AVERAGES = {
    "ema": lambda: EMAWeightAveraging(decay=0.5),
    "ema with buffers": lambda: EMAWeightAveraging(decay=0.5, use_buffers=True),
    "swa": lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1),
}


class Watch(pl.Callback):
    def __init__(self):
        self.seen = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for copy in find_average_models(trainer):
            for name, layer in sparse_layers(pl_module).items():
                average = sparse_layers(copy)[name]
                assert torch.equal(average.active_positions(), layer.active_positions())
                dense = average.parameter.detach() if average.storage == "masked" else None
                assert dense is None or not dense[~average.mask.view(dense.shape)].any()
                self.seen += 1


@pytest.mark.parametrize("storage", ["masked", "auto", "groups"])
@pytest.mark.parametrize("kind", AVERAGES)
def test_averages_follow(kind, storage):
    watch, module = Watch(), plain("transformer", optimizer=lambda m: torch.optim.AdamW(m.parameters(), lr=0.01))
    include = None if storage == "masked" else ["net.head"]
    topology = Grouped(3) if storage == "groups" else None
    sparse = Sparsify(0.7, topology, include=include, storage=storage, print_table=False)
    run = trainer(sparse, RigL(period=4, end=1.0), AVERAGES[kind](), MaskReapply(), watch, max_epochs=4)
    run.fit(module, batches("transformer"), batches("transformer"))
    assert watch.seen > 0
    for row, layer in zip(sparse.table, sparse_layers(module).values(), strict=True):
        assert layer.connectivity.n_connections == row.connections
        weight = layer.parameter.detach()
        assert layer.storage != "masked" or not weight[~layer.mask.view(weight.shape)].any()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("ema", lambda: STR(-4.0)),
        ("ema with buffers", lambda: TopKAST(0.7, 0.5, period=4, end=1.0)),
        ("swa", lambda: TopKAST(0.7, 0.5, period=4)),
    ],
)
def test_averages_are_those_of_the_effective_weights(kind, method):
    watch, module = Watch(), plain("transformer", optimizer=lambda m: torch.optim.AdamW(m.parameters(), lr=0.01))
    run = trainer(method(), AVERAGES[kind](), MaskReapply(), watch, max_epochs=4)
    run.fit(module, batches("transformer"), batches("transformer"))
    assert watch.seen > 0
    for layer in sparse_layers(module).values():
        assert 0 < layer.n_connections < layer.n_out * layer.n_in
        assert not layer.parameter.detach().flatten(1)[~layer.mask].any()
