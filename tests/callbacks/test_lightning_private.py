"""The private names of Lightning that the package uses still exist and mean what they meant."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.cli import LightningCLI
from torch import nn

from psn_lightning.callbacks.lightning_private import (
    begin_next_epoch,
    end_restart,
    get_average_model,
    is_accumulating,
    list_optimizers,
    log_step_metrics,
    resume_broadcasting_sigterm,
    stop_broadcasting_sigterm,
)
from tests.helpers.models import batches, plain, trainer


class Watch(pl.Callback):
    def __init__(self):
        self.accumulating, self.steps, self.averages = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.accumulating.append(is_accumulating(trainer))
        self.steps.append(trainer.global_step)
        self.averages.append(get_average_model(trainer.callbacks[0]))


@pytest.mark.parametrize("make", [WeightAveraging, lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)])
def test_the_batches_that_only_accumulate_and_the_averaged_model(make):
    watch, averaging = Watch(), make()
    assert get_average_model(averaging) is None
    assert get_average_model(watch) is None
    assert "_average_model" in vars(averaging)
    run = trainer(averaging, watch, max_epochs=1, accumulate_grad_batches=2)
    run.fit(
        plain("transformer", optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1)), batches("transformer", 5)
    )
    assert watch.accumulating == [True, False, True, False, False]  # the last batch always ends with a step
    assert watch.steps == [0, 1, 1, 2, 3]
    assert all(isinstance(average, nn.Module) for average in watch.averages)


def test_the_optimizers_of_every_form_of_configuration():
    first, second = (torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1) for _ in range(2))
    scheduler = torch.optim.lr_scheduler.StepLR(first, 1)
    assert list_optimizers(first) == [first]
    assert list_optimizers([first, second]) == [first, second]
    assert list_optimizers(([first, second], [scheduler])) == [first, second]
    assert list_optimizers({"optimizer": first, "lr_scheduler": scheduler}) == [first]
    assert list_optimizers(({"optimizer": first}, {"optimizer": second})) == [first, second]


class Logged(type(plain("transformer"))):
    def training_step(self, batch, batch_idx):
        self.log("own", float(batch_idx), on_step=True)
        return super().training_step(batch, batch_idx)


class SendNow(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        before = len(trainer.logger.received)
        log_step_metrics(trainer)
        assert trainer.logger.received[before:] == [{"own": float(batch_idx), "epoch": 0}]


class Received(pl.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.received = []

    def log_metrics(self, metrics, step=None):
        self.received.append(dict(metrics))


def test_the_metrics_of_a_step_are_sent_at_once():
    module = Logged(plain("transformer").net)
    run = trainer(SendNow(), max_epochs=1, logger=Received(), log_every_n_steps=1)
    run.fit(module, batches("transformer", 2))


@pytest.mark.parametrize("method", ["_set_seed", "_instantiate_trainer", "_run_subcommand"])
def test_lightning_cli_has_the_methods_that_the_commands_override(method):
    assert callable(getattr(LightningCLI, method))


class Broadcasts(pl.Callback):
    """Looks at the method of the loop that Lightning calls in every step of several processes."""

    def __init__(self):
        self.own = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1:
            stop_broadcasting_sigterm(trainer)
        if batch_idx == 2:
            resume_broadcasting_sigterm(trainer)
        loop = trainer.fit_loop.epoch_loop
        self.own.append(loop._broadcast_sigterm_tensor == type(loop)._broadcast_sigterm_tensor.__get__(loop))


def test_the_broadcast_of_sigterm_is_switched_off_and_on():
    watch = Broadcasts()
    trainer(watch, max_epochs=1).fit(plain("transformer"), batches("transformer", 4))
    assert watch.own == [True, False, True, True]


class Restart(pl.Callback):
    """Saves at the end of the first epoch, and notes epochs and whether the loops restart."""

    def __init__(self, path, corrects):
        self.path, self.corrects, self.epochs, self.restarts = path, corrects, [], []

    def on_train_start(self, trainer, pl_module):
        if self.corrects:
            begin_next_epoch(trainer)

    def on_train_epoch_end(self, trainer, pl_module):
        if not trainer.current_epoch and not self.path.exists():
            trainer.save_checkpoint(self.path)
        loop = trainer.fit_loop
        self.epochs.append(trainer.current_epoch)
        self.restarts.append(loop.restarting)
        end_restart(trainer)
        assert not any([loop._restarting, loop.epoch_loop.restarting, loop.restarted_on_epoch_end])


@pytest.mark.parametrize(("corrects", "epochs"), [(False, [0, 1]), (True, [1, 2])])
def test_a_checkpoint_at_the_end_of_an_epoch_with_max_steps(corrects, epochs, tmp_path):
    """Lightning alone ends the first epoch again, and leaves out the third."""
    for checkpoint in (None, tmp_path / "x.ckpt"):
        watch = Restart(tmp_path / "x.ckpt", corrects)
        run = trainer(watch, max_epochs=3, max_steps=6)
        run.fit(plain("transformer"), batches("transformer", 2), ckpt_path=checkpoint)
    assert watch.epochs == epochs
    assert watch.restarts == [not corrects, False]
    assert (run.global_step == 6) == corrects
