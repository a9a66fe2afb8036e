"""Averaged copies of a model (Lightning's EMA and SWA callbacks) follow its connections."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
from torch import nn

from psn_lightning.nn import sparse_layers


def follow_connections(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Give every averaged copy the model's connections: a dropped connection leaves the average, too.

    Averages of connections that stay keep their value; those of new ones begin at 0, as the weights do.
    """
    for copy in _averaged_copies(trainer):
        layers = sparse_layers(copy)
        for name, layer in sparse_layers(pl_module).items():
            layers[name].set_active(layer.active_positions())


def _averaged_copies(trainer: pl.Trainer) -> Iterator[nn.Module]:
    """The copies that ``StochasticWeightAveraging`` and ``WeightAveraging`` keep, under a private name."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = getattr(callback, "_average_model", None)
        if isinstance(average, nn.Module):
            inner = getattr(average, "module", average)  # torch's AveragedModel wraps it
            yield inner if isinstance(inner, nn.Module) else average
