"""Optimizer settings that were changed on purpose between two parts of a run."""

from __future__ import annotations

from collections.abc import Collection

import lightning.pytorch as pl
import torch

from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier


class OptimizerSettings(pl.Callback):
    """Gives a resumed optimizer the settings that were changed; its checkpoint would silently keep the old ones.

    Args:
        changed: Configuration keys that differ from the checkpoint's.
    """

    def __init__(self, changed: Collection[str]) -> None:
        own = [key for key in changed if key == "model.lr" or key.startswith("model.optimizer.init_args.")]
        self.names = {key.rsplit(".", 1)[1] for key in own}

    def on_train_start(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """Overwrite what the checkpoint brought.

        Raises:
            SettingError: If the learning rate was changed although a schedule moves it.
        """
        if not self.names:
            return
        fresh = pl_module.configure_optimizers()
        if isinstance(fresh, dict) and "lr" in self.names:
            raise SettingError("the learning rate cannot change within a run whose model.lr_scheduler moves it")
        optimizer = fresh["optimizer"] if isinstance(fresh, dict) else fresh
        assert isinstance(optimizer, torch.optim.Optimizer)
        for group, configured in zip(trainer.optimizers[0].param_groups, optimizer.param_groups, strict=True):
            group.update({name: configured[name] for name in self.names})
