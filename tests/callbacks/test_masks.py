"""Absent weights and moments stay 0, whatever else writes to them."""

import lightning.pytorch as pl
import torch

from psn_lightning.callbacks import MaskReapply
from psn_lightning.data import Digits
from tests.callbacks.test_dynamic import Watch, model, trainer


def test_mask_reapply_mends_what_others_wrote():
    class Vandal(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            with torch.no_grad():
                pl_module.network.fc1.weight.add_(1)

    watch, task = Watch(), model()
    trainer(Vandal(), MaskReapply(), watch, max_steps=3).fit(task, Digits())
    assert watch.stray == 0.0


def test_mask_reapply_cleans_moments_at_the_start():
    class Stale(pl.Callback):
        def on_fit_start(self, trainer, pl_module):
            optimizer = trainer.optimizers[0]
            weight = pl_module.network.fc1.weight
            optimizer.state[weight] = {
                "step": torch.tensor(5.0),
                "exp_avg": torch.ones_like(weight),
                "exp_avg_sq": torch.ones_like(weight),
            }

    watch = Watch()
    trainer(Stale(), MaskReapply(), watch, max_steps=3).fit(model(), Digits())
    assert watch.stray == 0.0
