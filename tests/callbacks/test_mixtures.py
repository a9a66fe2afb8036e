"""Metrics of mixtures, and runs that are stopped and continued."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import Logger

from psn_lightning.callbacks import GradientRatio, MixtureLogger, RigL, Sparsify, TopologyLogger
from psn_lightning.checkpoints import GeneratorState, PortableMoments
from psn_lightning.data import Digits
from psn_lightning.nn import Mixture, MixtureLayer
from psn_lightning.task import SparseClassifier
from tests.helpers.models import Plain, SaveAt, batches, trainer

EPOCH = 23  # steps: 1437 rows in batches of 64


class Noted(Logger):
    """Keeps what is logged."""

    name, version = "noted", 0

    def __init__(self):
        super().__init__()
        self.metrics = {}

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.metrics.setdefault(name, {})[step] = float(value)

    def log_hyperparams(self, *_):
        pass


def train(*callbacks, epochs=2, mixture=None, checkpoint=None, **arguments):
    pl.seed_everything(7)
    task = SparseClassifier(64, 10, hidden=[32, 24], sparsity=0.0, mixture=mixture or Mixture(6, 2, hidden=8))
    logger = Noted()
    every = [*callbacks, MixtureLogger(), TopologyLogger(), GradientRatio(), GeneratorState(), PortableMoments()]
    run = trainer(*every, max_epochs=epochs, logger=logger, use_distributed_sampler=False, **arguments)
    run.fit(task, Digits(batch_size=64), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return task, logger.metrics


class Counts(pl.Callback):
    """Rows of each expert, by summing what every batch added."""

    def __init__(self):
        self.before, self.epochs = 0, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.epochs.append(torch.zeros(6, dtype=torch.int64))
        self.before = pl_module.network.fc2.row_counts.clone()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.epochs[-1] += pl_module.network.fc2.row_counts - self.before


def test_shares_and_balance_of_every_epoch():
    watch = Counts()
    _, metrics = train(watch)
    for epoch, counts in enumerate(watch.epochs):
        step, rows = (epoch + 1) * EPOCH - 1, 1437
        assert counts.sum() == 2 * rows
        for i, n in enumerate(counts.tolist()):
            assert metrics[f"moe/share/fc2/{i}"][step] == pytest.approx(n / rows)
        cv = counts.double().std(correction=0) / counts.double().mean()
        assert metrics["moe/load_cv/fc2"][step] == pytest.approx(cv.item())
    assert set(metrics["moe/load_cv/fc1"]) == {EPOCH - 1, 2 * EPOCH - 1}
    assert set(metrics["moe/connections"].values()) == {6 * 8 * (64 + 32 + 32 + 24)}
    assert set(metrics["moe/active_connections"].values()) == {2 * 8 * (64 + 32 + 32 + 24)}
    assert 0 in metrics["moe/connections"]


def test_the_losses_are_apart_and_balance():
    _, metrics = train(epochs=3, log_every_n_steps=1)
    assert metrics["train/loss"].keys() == metrics["train/auxiliary_loss"].keys()
    free = Mixture(6, 2, hidden=8, importance=0, load=0)
    _, unbalanced = train(epochs=3, mixture=free, log_every_n_steps=1)
    assert set(unbalanced["train/auxiliary_loss"].values()) == {0.0}
    last = 3 * EPOCH - 1
    assert metrics["moe/load_cv/fc2"][last] < unbalanced["moe/load_cv/fc2"][last]
    assert metrics["train/loss"][last] < 0.9 * metrics["train/loss"][0]  # cross entropy alone


def test_nothing_is_logged_without_mixtures():
    logger = Noted()
    trainer(MixtureLogger(), max_epochs=1, logger=logger).fit(Plain(torch.nn.Linear(16, 3)), rows())
    assert not [name for name in logger.metrics if name.startswith("moe/")]


def rows():
    loader = batches("transformer")
    x, y = loader.dataset.tensors
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:, 0], y), batch_size=4)


def test_a_model_of_ones_own_has_qualified_names():
    logger = Noted()
    net = torch.nn.Sequential(MixtureLayer(16, 3, 4, hidden=5))
    trainer(MixtureLogger(), max_epochs=1, logger=logger).fit(Plain(net), rows())
    assert "moe/load_cv/net.0" in logger.metrics


@pytest.mark.parametrize("step", [EPOCH, 30])
def test_a_run_that_was_stopped_and_continued_is_the_run_that_was_not(step, tmp_path):
    """Within an epoch too: weights, noise, and the shares of the whole epoch."""
    whole, expected = train(SaveAt(step, tmp_path))
    again, metrics = train(checkpoint=tmp_path / f"{step}.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    last = 2 * EPOCH - 1
    keys = [name for name in expected if last in expected[name]]
    assert [name for name in keys if metrics[name][last] != expected[name][last]] == []
    assert any(name.startswith("moe/share") for name in keys)


@pytest.mark.filterwarnings("ignore:.*have fan-in 0")
def test_sparse_experts_under_rigl():
    """The last expert is never chosen: its gradients are 0."""

    class Closed(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            gate = pl_module.network.fc1.gate
            pl_module.network.fc1.noise.requires_grad_(False).fill_(-20.0)
            with torch.no_grad():
                gate[:, :3], gate[:, 3:] = 1.0, -1.0  # features are positive on the whole
            gate.requires_grad_(False)

    sparse = Sparsify(0.5, include=["network.fc1.*"], print_table=False)
    task, metrics = train(sparse, Closed(), RigL(period=5))
    last = 2 * EPOCH - 1
    assert metrics["moe/share/fc1/5"][last] < 0.5
    assert metrics["sparsity/realised"][last] == pytest.approx(0.5, abs=1e-3)
    assert next(iter(task.sparse_layers())) == "fc1.experts.0.hidden"
    assert metrics["moe/connections"][last] == 6 * 8 * (0.5 * (64 + 32) + 32 + 24)
    assert all(torch.isfinite(torch.tensor(list(values.values()))).all() for values in metrics.values())
