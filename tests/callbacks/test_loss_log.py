"""Steps in which the loss is logged."""

from types import SimpleNamespace

import pytest

from psn_lightning.callbacks.loss_log import LossLog


def trainer(step=0, every=10, last=False, stops=False, monitor=None):
    return SimpleNamespace(
        global_step=step, log_every_n_steps=every, is_last_batch=last, should_stop=stops,
        callbacks=[SimpleNamespace(monitor=monitor)],
    )  # fmt: skip


def begun(**settings):
    log = LossLog()
    log.begin(trainer(**settings), "loss")
    return log


def test_the_first_step_after_a_resume_is_logged():
    log = begun()
    assert [log.is_due(trainer(step), batch_idx=step) for step in (13, 14, 19, 20)] == [True, False, True, False]


@pytest.mark.parametrize(("monitor", "due"), [("loss", True), ("other", False), (None, False)])
def test_a_loss_that_is_monitored_is_logged_in_every_step(monitor, due):
    log = begun(monitor=monitor)
    assert log.is_due(trainer(3), batch_idx=3)
    assert log.is_due(trainer(4), batch_idx=4) is due


def test_the_ends_of_an_epoch_and_of_a_fit_are_logged_whatever_the_interval():
    log = begun(every=0)
    assert log.is_due(trainer(7, every=0), batch_idx=0)
    assert not log.is_due(trainer(8, every=0), batch_idx=1)
    assert log.is_due(trainer(8, every=0, last=True), batch_idx=1)
    assert log.is_due(trainer(8, every=0, stops=True), batch_idx=1)
