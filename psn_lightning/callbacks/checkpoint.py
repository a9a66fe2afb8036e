"""The best and the last checkpoint of a run."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from psn_lightning.task import SparseClassifier


class BestAndLast(ModelCheckpoint):
    """Keeps ``best.ckpt`` (by the accuracy that is evaluated after every epoch) and ``last.ckpt``."""

    def __init__(self) -> None:
        super().__init__(filename="best", save_last=True, mode="max", enable_version_counter=False)

    def setup(self, trainer: pl.Trainer, pl_module: SparseClassifier, stage: str) -> None:  # type: ignore[override]
        """Choose what is watched; nothing where evaluation is off."""
        self.monitor = f"{pl_module.evaluation_split}/accuracy" if trainer.enable_validation else None
        super().setup(trainer, pl_module, stage)
