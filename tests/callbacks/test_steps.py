"""The length of a run in optimizer steps."""

import math

import lightning.pytorch as pl
import pytest

from psn_lightning.callbacks.steps import count_total_steps
from psn_lightning.errors import SettingError
from tests.helpers.models import batches, plain, trainer


class Count(pl.Callback):
    def setup(self, trainer, pl_module, stage):
        self.steps = count_total_steps(trainer)


def count(**arguments):
    callback = Count()
    loader = batches("transformer", 5)
    trainer(callback, num_sanity_val_steps=0, **arguments).fit(plain("transformer"), loader, loader)
    return callback.steps


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"max_epochs": 1}, 5),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, 6),
        ({"max_epochs": 2, "max_steps": 3}, 3),
        ({"max_epochs": -1, "max_time": {"seconds": 1}}, math.inf),
    ],
)
def test_steps_are_those_of_the_whole_run(arguments, steps):
    assert count(**arguments) == steps


def test_arguments_that_do_not_fit_the_batches_are_refused():
    with pytest.raises(SettingError, match="99999"):
        count(max_epochs=1, val_check_interval=99999)
