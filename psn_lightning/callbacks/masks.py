"""Keeps absent connections absent."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from psn_lightning.callbacks.ranks import refuse_sharding
from psn_lightning.dynamics import moments_of
from psn_lightning.task import SparseClassifier


class MaskReapply(pl.Callback):
    """Re-applies the masks after every optimizer step (section 2.4).

    The layers mask their gradient already; this is what holds when something else writes to the weights:
    stale moments after a resume, weight averaging, a user's hook.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Masks need whole layers."""
        refuse_sharding(type(trainer.strategy).__name__)

    def on_train_start(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """Clean what a checkpoint may have brought: moments of connections that do not exist."""
        for layer in pl_module.network.sparse_layers().values():
            layer.apply_mask([m for optimizer in trainer.optimizers for m in moments_of(layer, optimizer)])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Re-apply."""
        for layer in pl_module.network.sparse_layers().values():
            layer.apply_mask()
