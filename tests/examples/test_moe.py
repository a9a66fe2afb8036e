"""The transformer of mixtures: it stays causal, learns with its balance losses, and its experts can be sparse."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.examples import make
from examples.chars import ASCII
from examples.moe import MixtureTransformer
from psn_lightning import Mixture, auxiliary_loss, mixture_layers, sparse_layers
from psn_lightning.callbacks import MaskReapply, MixtureLogger, RigL, Sparsify
from psn_lightning.cli import main
from tests.conftest import CONF, QUIET, only_run
from tests.helpers.models import trainer


def small():
    return MixtureTransformer(16, 16, 2, 2, mixture=Mixture(4, 2, hidden=8))


def text():
    rows = torch.randint(0, ASCII, (48, 17))
    return DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), 16)


def test_no_character_sees_a_later_one():
    model = small().eval()
    for layer in mixture_layers(model).values():
        torch.nn.init.normal_(layer.gate)
    x = torch.randint(0, ASCII, (2, 16))
    changed = x.clone()
    changed[:, 9] = (x[:, 9] + 1) % ASCII
    with torch.no_grad():
        before, after = model(x), model(changed)
    assert torch.allclose(before[:, :9], after[:, :9], atol=1e-6)
    assert not torch.allclose(before[:, 9:], after[:, 9:], atol=1e-3)


def test_a_step_adds_the_losses_of_all_blocks():
    model, run = small(), trainer(MixtureLogger(), max_steps=3, max_epochs=-1)
    run.fit(model, text())
    assert list(mixture_layers(model)) == ["blocks.0.mixture", "blocks.1.mixture"]
    assert run.callback_metrics["train/auxiliary_loss"] == auxiliary_loss(model) > 0
    assert "moe/load_cv/blocks.1.mixture" in run.callback_metrics
    assert all(layer.gate.any() for layer in mixture_layers(model).values())


def test_sparse_experts_under_rigl_keep_their_counts():
    model = small()
    sparsify = Sparsify(0.8, include=["*.experts.*"], print_table=False)
    trainer(sparsify, RigL(period=2), MaskReapply(), max_steps=6, max_epochs=-1).fit(model, text())
    layers = sparse_layers(model)
    assert {name: layer.connectivity.n_connections for name, layer in layers.items()} == {
        row.name: row.connections for row in sparsify.table
    }
    assert len(layers) == 2 * 4 * 2


def test_the_configuration_shows_every_default():
    example, default = make("moe"), MixtureTransformer()
    assert [p.shape for p in example.model.parameters()] == [p.shape for p in default.parameters()]
    assert (example.model.lr, example.model.weight_decay) == (default.lr, default.weight_decay)
    for ours, theirs in zip(mixture_layers(example.model).values(), mixture_layers(default).values(), strict=True):
        assert (ours.importance, ours.load, ours.active) == (theirs.importance, theirs.load, theirs.active)


def test_the_configuration_runs_for_a_few_steps(client):
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    few += ["--trainer.accelerator=cpu", "--data.init_args.batch_size=4", "--model.init_args.mixture.experts=4"]
    assert main(["fit", "--config", str(CONF / "examples" / "moe.yaml"), *QUIET, *few]) == 0
    run = only_run(client)
    assert run.data.metrics["moe/connections"] == 3 * 4 * 192 * 2 * 96
    assert run.data.metrics["moe/active_connections"] == pytest.approx(3 * 2 * 192 * 2 * 96)
