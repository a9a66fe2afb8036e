"""Pruning within a run: at its points, once, with the training order as it was."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from psn_lightning import sparse_layers
from psn_lightning.callbacks import MaskReapply, Prune, RigL, TopologyLogger
from psn_lightning.checkpoints import PortableMoments
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from psn_lightning.pruning import OBD, SNIP, GraSP, Magnitude, SynFlow, prune
from psn_lightning.task import SparseClassifier
from tests.callbacks.test_dynamic import trainer
from tests.helpers.models import SaveAt, TwoOptimizers, batches, plain
from tests.helpers.models import trainer as other_trainer


class Watch(pl.Callback):
    """Rows and connections of every step."""

    def __init__(self):
        self.rows, self.counts = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rows.append(batch[0].sum(dim=1))

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.counts.append(sum(len(layer.active_positions()) for layer in sparse_layers(pl_module).values()))


def dense():
    pl.seed_everything(3)
    return SparseClassifier(64, 10, hidden=[40, 30], sparsity=0)


POSITIONS = 64 * 40 + 40 * 30


@pytest.mark.parametrize("saliency", [SNIP(), GraSP(), SynFlow(), Magnitude(), OBD()])
def test_before_the_first_step_and_the_rows_stay_in_their_order(saliency):
    plain_run, pruned = Watch(), Watch()
    trainer(plain_run, max_steps=5).fit(dense(), Digits(batch_size=64))
    task = dense()
    trainer(Prune(saliency, 0.9, rounds=2, n_batches=1), MaskReapply(), pruned, max_steps=5).fit(
        task, Digits(batch_size=64)
    )
    assert pruned.counts == [round(0.1 * POSITIONS)] * 5
    assert all(map(torch.equal, plain_run.rows, pruned.rows))


def test_it_is_what_the_function_does_on_the_loaders_rows():
    task, expected = dense(), dense()
    trainer(Prune(SNIP(), 0.9, seed=5), max_steps=1).fit(task, data := Digits(batch_size=64))
    rows = data.train_dataloader().dataset
    (batch, *_) = DataLoader(rows, 64, shuffle=True, collate_fn=lambda b: b, generator=torch.Generator().manual_seed(5))
    prune(expected.network, SNIP(), 0.9, [batch])
    for a, b in zip(sparse_layers(task).values(), sparse_layers(expected).values(), strict=True):
        assert torch.equal(a.mask, b.mask)


def test_several_points_go_down_geometrically():
    watch = Watch()
    trainer(Prune(Magnitude(), 0.9, at=[3, 0.5, 8]), watch, max_steps=10).fit(dense(), Digits(batch_size=64))
    chain = [POSITIONS, *(round(POSITIONS * 0.1 ** (i / 3)) for i in (1, 2, 3))]
    expected = [chain[0]] * 3 + [chain[1]] * 2 + [chain[2]] * 3 + [chain[3]] * 2
    assert watch.counts == pytest.approx(expected, abs=1)
    assert watch.counts[-1] == chain[3]


def parts():
    return [Prune(SNIP(), 0.9, at=[0, 6, 12]), TopologyLogger(), MaskReapply(), PortableMoments()]


@pytest.mark.parametrize("stop", [3, 6, 9])
def test_a_resumed_run_prunes_at_the_points_that_are_left(stop, tmp_path):
    straight = dense()
    lengths = {"max_steps": 15}
    trainer(*parts(), SaveAt(stop, tmp_path), **lengths).fit(straight, Digits(batch_size=64))
    resumed, watch = dense(), Watch()
    trainer(*parts(), watch, **lengths).fit(
        resumed, Digits(batch_size=64), ckpt_path=tmp_path / f"{stop}.ckpt", weights_only=True
    )
    assert len(watch.counts) == 15 - stop
    for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_rule_goes_on_from_the_pruned_network():
    watch, task = Watch(), dense()
    callbacks = [Prune(SNIP(), 0.9), TopologyLogger(), RigL(period=4, end=1.0), watch]
    run = trainer(*callbacks, max_steps=-1, max_epochs=1)
    run.fit(task, Digits(batch_size=64))
    assert set(watch.counts) == {round(0.1 * POSITIONS)}
    assert 0 < run.callback_metrics["topology/overlap_with_initial/fc1"] < 1


@pytest.mark.parametrize("name", ["resnet", "transformer"])
def test_other_peoples_models(name):
    task = plain(name)
    run = other_trainer(Prune(SNIP(), 0.7), MaskReapply(), max_epochs=1, limit_train_batches=2)
    run.fit(task, batches(name))
    layers = sparse_layers(task).values()
    positions = sum(layer.n_out * layer.n_in for layer in layers)
    assert sum(len(layer.active_positions()) for layer in layers) == round(0.3 * positions)


def test_several_optimizers_count_batches_and_leave_absent_weights_at_0():
    pl.seed_everything(3)
    task, watch = TwoOptimizers(64, 10, hidden=[40, 30], sparsity=0), Watch()
    trainer(Prune(Magnitude(), 0.8, at=0.5), watch, max_steps=16).fit(task, Digits(batch_size=64))
    assert watch.counts == [POSITIONS] * 4 + [round(0.2 * POSITIONS)] * 4
    for layer in sparse_layers(task).values():
        assert not layer.parameter[~layer.mask].any()


def test_a_callback_prunes_every_model_that_it_is_given():
    callback = Prune(Magnitude(), 0.9)
    for _ in range(2):
        task = dense()
        trainer(callback, max_steps=2).fit(task, Digits(batch_size=64))
        assert sum(len(layer.active_positions()) for layer in sparse_layers(task).values()) == round(0.1 * POSITIONS)


def test_a_checkpoint_is_evaluated_by_a_new_model_and_with_a_rule_before_it(tmp_path):
    task = plain("transformer")
    run = other_trainer(RigL(period=2, end=1.0), Prune(SNIP(), 0.7), max_epochs=1, max_steps=5)
    run.fit(task, batches("transformer"))
    run.save_checkpoint(tmp_path / "x.ckpt")
    again = plain("transformer")
    other_trainer(Prune(SNIP(), 0.7)).validate(
        again, batches("transformer"), ckpt_path=tmp_path / "x.ckpt", weights_only=True
    )
    for a, b in zip(sparse_layers(task).values(), sparse_layers(again).values(), strict=True):
        assert torch.equal(a.mask, b.mask)


def test_a_batch_sampler_says_the_size():
    rows = batches("transformer").dataset
    loader = DataLoader(rows, batch_sampler=BatchSampler(SequentialSampler(rows), 4, drop_last=False))
    task = plain("transformer")
    other_trainer(Prune(SNIP(), 0.7), max_steps=2).fit(task, loader)
    layers = sparse_layers(task).values()
    assert sum(len(layer.active_positions()) for layer in layers) < 0.31 * sum(
        layer.n_out * layer.n_in for layer in layers
    )


class Stream(IterableDataset):
    """Rows without numbers."""

    def __iter__(self):
        return iter([(torch.randn(5, 16), 1)] * 8)


def test_a_loader_without_numbered_rows_is_named():
    with pytest.raises(SettingError, match="SNIP reads training batches"):
        other_trainer(Prune(SNIP()), max_steps=2).fit(plain("transformer"), DataLoader(Stream(), 4))


@pytest.mark.parametrize("at", [-1, 1.0, [], [0, 1.5]])
def test_points_that_cannot_be(at):
    with pytest.raises(SettingError, match="at "):
        Prune(Magnitude(), 0.9, at)
