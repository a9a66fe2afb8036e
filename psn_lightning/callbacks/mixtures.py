"""Logging of how mixtures of experts share out their rows."""

from __future__ import annotations

import inspect
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from psn_lightning.callbacks.layers import log_epoch, log_now
from psn_lightning.nn import MixtureLayer, mixture_layers

_ROWS = "psn_lightning.mixture_rows"  # entry of a checkpoint


class MixtureLogger(pl.Callback):
    """Logs connections and balance of a LightningModule's mixtures of experts; without mixtures nothing is logged.

    At the start of the run and after every epoch: ``moe/connections``, those of all experts of all mixtures, and
    ``moe/active_connections``, those that a row uses; gates are not counted. After every epoch, from the training rows
    of all processes: ``moe/share/<layer>/<expert>``, the share of the rows that the expert computed, and
    ``moe/load_cv/<layer>``, the coefficient of variation (standard deviation / mean) of the experts' numbers of rows.
    The layers count on the device; it is waited for once per epoch.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Tensor] = {}
        self._epoch = 0  # number of the epoch that the restored counts belong to

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the counts of an interrupted epoch, and log the connections at step 0."""
        layers = find_mixtures(pl_module)
        goes_on = trainer.current_epoch == self._epoch  # not after a checkpoint of the last step of an epoch
        for name, layer in layers.items():
            zeros = torch.zeros_like(layer.row_counts)
            layer.row_counts = self._restored.get(name, zeros) if goes_on else zeros
        self._restored = {}
        if layers and trainer.global_step == 0:
            log_now(trainer, _count_connections(layers), step=0)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count; Lightning calls this only where an epoch begins, not where one goes on."""
        for layer in find_mixtures(pl_module).values():
            layer.row_counts.zero_()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the figures of the epoch."""
        layers = find_mixtures(pl_module)
        if not layers:
            return
        metrics = _count_connections(layers)
        for name, counts in _sum_counts(trainer, layers).items():
            rows = counts.sum().item() / layers[name].active
            if rows:
                metrics |= {f"moe/share/{name}/{i}": n / rows for i, n in enumerate(counts.tolist())}
                metrics[f"moe/load_cv/{name}"] = float(counts.double().std(correction=0) / counts.double().mean())
        log_epoch(trainer, metrics)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the counts of the epoch so far, those of all processes; every process calls this."""
        if layers := find_mixtures(pl_module):
            checkpoint[_ROWS] = _sum_counts(trainer, layers)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the counts of an interrupted epoch until training starts; the first process has all of them."""
        self._restored = checkpoint.get(_ROWS, {}) if trainer.is_global_zero else {}
        self._epoch = checkpoint["epoch"]


def find_mixtures(pl_module: pl.LightningModule) -> dict[str, MixtureLayer]:
    """Find the mixtures of a module, by the names under which their metrics are logged.

    Args:
        pl_module: Any LightningModule. Its method ``mixture_layers()``, if there is one, provides layers and names.
    """
    named = getattr(pl_module, "mixture_layers", None)
    own = named() if callable(named) and not inspect.signature(named).parameters else None
    if isinstance(own, dict) and all(isinstance(layer, MixtureLayer) for layer in own.values()):
        return own
    return mixture_layers(pl_module)


def _count_connections(layers: dict[str, MixtureLayer]) -> dict[str, float]:
    """Count connections over all mixtures, in all and for each row, as metrics."""
    counts = {name: layer.count_connections() for name, layer in layers.items()}
    active = sum(n * layers[name].active / len(layers[name].experts) for name, n in counts.items())
    return {"moe/connections": float(sum(counts.values())), "moe/active_connections": active}


def _sum_counts(trainer: pl.Trainer, layers: dict[str, MixtureLayer]) -> dict[str, Tensor]:
    """Sum the rows of each expert over all processes, in one exchange; int64 tensors on the CPU."""
    device = trainer.strategy.root_device
    counts = torch.cat([layer.row_counts.to(device) for layer in layers.values()])
    total = trainer.strategy.reduce(counts, reduce_op="sum")
    assert isinstance(total, Tensor)
    parts = torch.split(total.cpu(), [len(layer.experts) for layer in layers.values()])
    return {name: part.clone() for name, part in zip(layers, parts, strict=True)}
