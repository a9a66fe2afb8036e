"""A fit with ReduceLROnPlateau that goes on from a checkpoint is the fit that was not stopped."""

import signal

import lightning.pytorch as pl
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from psn_lightning.checkpoints import BestAndLast, ExactRestart, ReplayOrder
from tests.helpers.models import Plain, batches, plain, trainer

STEPS = 18  # three epochs of six batches


class Plateau(Plain):
    """Learning rate that is halved at every update but the first: one that is lost, or made twice, shows."""

    def __init__(self, interval, monitor, frequency=1):
        super().__init__(plain("transformer").net)
        self.interval, self.monitor, self.frequency = interval, monitor, frequency
        self.updates, self.rates, self.ends = [], {}, []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss)
        self.rates[self.trainer.global_step] = self.optimizers().param_groups[0]["lr"]
        return loss

    def on_train_epoch_end(self):
        self.ends.append(self.trainer.global_step)

    def lr_scheduler_step(self, scheduler, metric):
        self.updates.append((self.trainer.global_step, float(metric)))
        super().lr_scheduler_step(scheduler, metric)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0, threshold_mode="abs")
        settings = {"scheduler": scheduler, "monitor": self.monitor, "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": {**settings, "frequency": self.frequency}}


class Save(pl.Callback):
    """Writes checkpoints in the hooks in which callbacks write them; the fit goes on."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_start(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / "start.ckpt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 8:
            trainer.save_checkpoint(self.folder / "within.ckpt")

    def on_validation_end(self, trainer, pl_module):
        if trainer.global_step == 12:
            trainer.save_checkpoint(self.folder / "evaluated.ckpt")

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.global_step == 12:
            trainer.save_checkpoint(self.folder / "epoch.ckpt")


PLACES = {"start": (0, [6, 12, 18]), "within": (8, [12, 18]), "evaluated": (12, [12, 18]), "epoch": (12, [18])}
"""Step of each checkpoint, and the ends of epochs after it."""


def fit(module, *callbacks, checkpoint=None, **arguments):
    run = trainer(ReplayOrder(), ExactRestart(), *callbacks, num_sanity_val_steps=0, **arguments)
    try:
        run.fit(module, batches("transformer"), batches("transformer", 2), ckpt_path=checkpoint)
    except SystemExit:
        assert run.global_step < STEPS
    return run


def assert_goes_on(straight, resumed, step):
    assert resumed.rates == {at: rate for at, rate in straight.rates.items() if at >= step}
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in straight.state_dict().items())
    schedulers = [module.trainer.lr_scheduler_configs[0].scheduler.state_dict() for module in (straight, resumed)]
    assert schedulers[0] == schedulers[1]


@pytest.mark.parametrize("limits", [{"max_epochs": 3}, {"max_steps": STEPS, "max_epochs": 3}], ids=["epochs", "steps"])
@pytest.mark.parametrize("plateau", [("epoch", "val_loss"), ("epoch", "val_loss", 2), ("step", "train_loss", 2)])
def test_it_goes_on_as_if_it_had_not_stopped(plateau, limits, tmp_path):
    straight = Plateau(*plateau)
    fit(straight, Save(tmp_path), **limits)
    assert straight.updates
    for place, (step, ends) in PLACES.items():
        resumed = Plateau(*plateau)
        fit(resumed, checkpoint=tmp_path / f"{place}.ckpt", **limits)
        assert_goes_on(straight, resumed, step)
        assert resumed.ends == ends


class StopAt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("step", [8, 12])
def test_a_checkpoint_that_a_signal_asked_for(step, tmp_path):
    arguments = {"max_epochs": 3, "enable_checkpointing": True, "default_root_dir": tmp_path}
    straight, resumed = Plateau("epoch", "val_loss"), Plateau("epoch", "val_loss")
    fit(straight, BestAndLast(), **arguments)
    stopped = fit(Plateau("epoch", "val_loss"), BestAndLast(), StopAt(step), **arguments)
    assert stopped.global_step == step
    fit(resumed, BestAndLast(), checkpoint=stopped.checkpoint_callback.last_model_path, **arguments)
    assert_goes_on(straight, resumed, step)


def test_evaluations_that_are_rarer_than_updates(tmp_path):
    """An epoch without evaluation after the checkpoint updates with the metric of the one before it."""
    straight, resumed = Plateau("epoch", "val_loss"), Plateau("epoch", "val_loss")
    arguments = {"max_epochs": 3}

    class EvaluateOnce(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            trainer.check_val_every_n_epoch = 1 if trainer.current_epoch == 0 else 5

    fit(straight, EvaluateOnce(), Save(tmp_path), **arguments)
    assert len(set(straight.updates)) == 3
    fit(resumed, EvaluateOnce(), checkpoint=tmp_path / "within.ckpt", **arguments)
    assert_goes_on(straight, resumed, 8)
