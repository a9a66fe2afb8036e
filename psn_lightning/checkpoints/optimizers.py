"""Optimizer settings that were changed on purpose between two parts of a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.core.optimizer import _configure_optimizers

from psn_lightning.errors import SettingError

_OPTIMIZER = "optimizer.init_args."  # in the keys of a model that is given its optimizer


class OptimizerSettings(pl.Callback):
    """Gives a resumed optimizer the settings that were changed; its checkpoint would silently keep the old ones.

    Args:
        changed: Configuration keys that differ from the checkpoint's.
    """

    def __init__(self, changed: Collection[str]) -> None:
        own = [key for key in changed if key in ("model.lr", "model.init_args.lr") or _OPTIMIZER in key]
        self.names = {key.rsplit(".", 1)[1] for key in own}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Overwrite what the checkpoint brought.

        Raises:
            SettingError: If the learning rate was changed although a schedule moves it.
        """
        if not self.names:
            return
        configured_by_user: Any = pl_module.configure_optimizers()
        fresh, *_ = _configure_optimizers(configured_by_user)
        if trainer.lr_scheduler_configs and "lr" in self.names:
            raise SettingError("the learning rate cannot change within a run whose lr_scheduler moves it")
        for optimizer, configured in zip(trainer.optimizers, fresh, strict=True):
            for group, new in zip(optimizer.param_groups, configured.param_groups, strict=True):
                group.update({name: new[name] for name in self.names if name in new})
