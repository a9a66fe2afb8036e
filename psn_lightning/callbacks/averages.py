"""Connections of averaged copies of a model, which Lightning's EMA and SWA callbacks keep."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
from torch import nn

from psn_lightning.callbacks.lightning_private import get_average_model
from psn_lightning.nn import sparse_layers


def follow_connections(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Copy the model's connections to its averaged copies.

    Averages of connections that stay active keep their value, averages of grown connections start at 0.

    Args:
        trainer: Trainer whose callbacks may keep averaged copies.
        pl_module: Trained module.
    """
    for copy in find_average_models(trainer):
        layers = sparse_layers(copy)
        for name, layer in sparse_layers(pl_module).items():
            layers[name].set_active(layer.active_positions())


def find_average_models(trainer: pl.Trainer) -> Iterator[nn.Module]:
    """Find the averaged copies that the callbacks of a trainer keep."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = get_average_model(callback)
        if isinstance(average, nn.Module):
            inner = getattr(average, "module", average)  # torch's AveragedModel wraps the copy
            yield inner if isinstance(inner, nn.Module) else average
