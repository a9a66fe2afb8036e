"""Changed optimizer settings reach a resumed optimizer."""

import pytest
import torch

from psn_lightning.checkpoints import OptimizerSettings
from psn_lightning.errors import SettingError
from tests.helpers.models import SaveAt, batches, plain, trainer


def make(lr, scheduled=False):
    def configure(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
        return ([optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 100)]) if scheduled else optimizer

    return plain("transformer", optimizer=configure)


def resume(changed, tmp_path, scheduled=False):
    trainer(SaveAt(2, tmp_path), max_steps=2).fit(make(0.1, scheduled), batches("transformer"))
    run = trainer(OptimizerSettings(changed), max_steps=4)
    run.fit(make(0.02, scheduled), batches("transformer"), ckpt_path=tmp_path / "2.ckpt")
    return run.optimizers[0].param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("changed", "lr"),
    [([], 0.1), (["model.lr"], 0.02), (["model.optimizer.init_args.lr"], 0.02), (["trainer.max_steps"], 0.1)],
)
def test_only_what_was_changed_is_overwritten(changed, lr, tmp_path):
    assert resume(changed, tmp_path) == lr


def test_a_learning_rate_that_a_scheduler_sets_cannot_change(tmp_path):
    with pytest.raises(SettingError, match="lr_scheduler"):
        resume(["model.lr"], tmp_path, scheduled=True)
