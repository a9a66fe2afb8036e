"""Optimizer settings that differ between a checkpoint and the resumed run."""

from __future__ import annotations

from collections.abc import Collection

import lightning.pytorch as pl

from psn_lightning.callbacks.lightning_private import list_optimizers
from psn_lightning.errors import SettingError

_OPTIMIZER = "optimizer.init_args."  # part of the configuration keys of an optimizer's arguments


class OptimizerSettings(pl.Callback):
    """Applies changed optimizer settings to a resumed run; without it the settings of the checkpoint would be kept.

    Args:
        changed: Configuration keys whose values differ from those of the checkpoint.
    """

    def __init__(self, changed: Collection[str]) -> None:
        own = [key for key in changed if key in ("model.lr", "model.init_args.lr") or _OPTIMIZER in key]
        self.names = {key.rsplit(".", 1)[1] for key in own}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Overwrite the restored settings of the optimizers with the configured ones.

        Raises:
            SettingError: If the learning rate was changed in a run with a learning-rate scheduler.
        """
        if not self.names:
            return
        fresh = list_optimizers(pl_module.configure_optimizers())
        if trainer.lr_scheduler_configs and "lr" in self.names:
            raise SettingError("lr cannot be changed on resume, because an lr_scheduler sets it: keep the former lr")
        for optimizer, configured in zip(trainer.optimizers, fresh, strict=True):
            for group, new in zip(optimizer.param_groups, configured.param_groups, strict=True):
                group.update({name: new[name] for name in self.names if name in new})
