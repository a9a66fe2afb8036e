"""Callback that keeps absent weights at 0."""

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
    """Applies the masks of all sparse layers after every optimizer step (arXiv 2604.10560, section 2.4).

    The layers already mask their gradients. This callback also covers other writes to absent weights: stale moments
    after a resume, weight averaging, optimizers that mix weights, and hooks of the user.
    """

    def __init__(self) -> None:
        self._layers: list[SparseLayer] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the strategy, and exclude masks from DDP's broadcasts.

        Raises:
            SettingError: If the strategy shards weights.
        """
        refuse_sharding(type(trainer.strategy).__name__)
        sparsify_first(trainer, pl_module)
        ignore_masks(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks to weights and moments, which a checkpoint may have filled at absent connections."""
        self._layers = list(layers_of(pl_module).values())
        for layer in self._layers:
            layer.apply_mask([m for optimizer in trainer.optimizers for m in moments_of(layer, optimizer)])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Apply the masks to the weights."""
        for layer in self._layers:
            layer.apply_mask()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Apply the masks once more: an averaging callback may just have replaced the weights."""
        for layer in self._layers:
            layer.apply_mask()
        follow_connections(trainer, pl_module)
