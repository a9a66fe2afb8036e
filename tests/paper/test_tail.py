import copy
import warnings

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from psn_lightning.paper import TailEvaluation
from psn_lightning.paper.tail import count_tail_epochs
from tests.callbacks.test_dynamic import model


class Evaluations(pl.Callback):
    """Epochs done at each evaluation."""

    def __init__(self):
        self.epochs = []

    def on_validation_end(self, trainer, pl_module):
        self.epochs.append(trainer.global_step / trainer.num_training_batches)


def fit(task, epochs, *callbacks):
    seen = Evaluations()
    arguments = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[seen, *callbacks],
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **arguments,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(task, Digits(batch_size=64))
    return task, seen.epochs


@pytest.mark.parametrize(("epochs", "tail"), [(1, 1), (5, 2), (10, 4), (20, 7), (30, 10)])
def test_the_tail_is_the_last_third(epochs, tail):
    assert count_tail_epochs(epochs) == tail


def test_evaluations_are_denser_in_the_tail_and_always_at_the_end_of_an_epoch():
    _, epochs = fit(model(), 4, TailEvaluation(per_epoch=4))  # 23 batches: no multiple of 4
    assert epochs[:2] == [1, 2]
    assert epochs[2:] == pytest.approx([2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75, 4], abs=0.03)
    assert epochs[5] == 3
    assert epochs[-1] == 4


def test_training_is_the_same():
    task = model()
    plain, _ = fit(copy.deepcopy(task), 3)
    often, epochs = fit(copy.deepcopy(task), 3, TailEvaluation())
    assert len(epochs) == 2 + 4
    for a, b in zip(plain.parameters(), often.parameters(), strict=True):
        assert torch.equal(a, b)


def test_less_than_one_evaluation():
    with pytest.raises(SettingError, match="per_epoch 0"):
        TailEvaluation(0)
