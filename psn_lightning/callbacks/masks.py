"""Keeps absent connections absent."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.layers import layers_of
from psn_lightning.callbacks.ranks import refuse_sharding
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.dynamics import moments_of
from psn_lightning.nn import SparseLayer
from psn_lightning.nn.weights import ignore_masks


class MaskReapply(pl.Callback):
    """Re-applies the masks after every optimizer step (section 2.4), to any LightningModule's sparse layers.

    The layers mask their gradient already; this is what holds when something else writes to the weights:
    stale moments after a resume, weight averaging, an optimizer that mixes weights, a user's hook.
    """

    def __init__(self) -> None:
        self._layers: list[SparseLayer] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Masks need whole layers, and are the same on every process."""
        refuse_sharding(type(trainer.strategy).__name__)
        sparsify_first(trainer, pl_module)
        ignore_masks(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clean what a checkpoint may have brought: moments of connections that do not exist."""
        self._layers = list(layers_of(pl_module).values())
        for layer in self._layers:
            layer.apply_mask([m for optimizer in trainer.optimizers for m in moments_of(layer, optimizer)])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Re-apply."""
        for layer in self._layers:
            layer.apply_mask()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Re-apply to what an averaging callback may just have put in the weights' place."""
        for layer in self._layers:
            layer.apply_mask()
        follow_connections(trainer, pl_module)
