"""Optimizer settings that were changed on purpose between two parts of a run."""

from __future__ import annotations

from collections.abc import Collection

import lightning.pytorch as pl
import torch

from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier


class OptimizerSettings(pl.Callback):
    """Gives a resumed optimizer the configured settings; its checkpoint would silently bring the old ones.

    Args:
        changed: Configuration keys that differ from the checkpoint's.

    Raises:
        SettingError: If they ask for another optimizer or another learning rate schedule.
    """

    def __init__(self, changed: Collection[str]) -> None:
        for key in changed:
            if key in {"model.optimizer", "model.optimizer.class_path"} or key.startswith("model.lr_"):
                raise SettingError(f"{key} cannot change within a run: its state in the checkpoint would not fit")
        self.applies = any(key == "model.lr" or key.startswith("model.optimizer.") for key in changed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """Overwrite what the checkpoint brought."""
        if not self.applies:
            return
        fresh = pl_module.configure_optimizers()
        optimizer = fresh["optimizer"] if isinstance(fresh, dict) else fresh
        assert isinstance(optimizer, torch.optim.Optimizer)
        for group, configured in zip(trainer.optimizers[0].param_groups, optimizer.param_groups, strict=True):
            group.update({key: value for key, value in configured.items() if key != "params"})
