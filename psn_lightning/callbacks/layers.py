"""Functions that the callbacks share: sparse layers of a LightningModule, seed of the run, logging."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import lightning.pytorch as pl
import torch

from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer, sparse_layers


def layers_of(pl_module: pl.LightningModule) -> dict[str, SparseLayer]:
    """Return the sparse layers of a module, by the names under which their metrics are logged.

    Args:
        pl_module: Any LightningModule. Its method ``sparse_layers()``, if there is one, provides layers and names.

    Returns:
        Layers by name; by qualified name for a module without that method.
    """
    named = getattr(pl_module, "sparse_layers", None)
    own = named() if callable(named) and not inspect.signature(named).parameters else None
    if isinstance(own, dict) and all(isinstance(layer, SparseLayer) for layer in own.values()):
        return own
    return sparse_layers(pl_module)


def select_layers(pl_module: pl.LightningModule, patterns: Sequence[str] | None) -> dict[str, SparseLayer]:
    """Select the sparse layers whose names match a glob pattern.

    Args:
        pl_module: Any LightningModule.
        patterns: Glob patterns of layer names; None selects all layers.

    Returns:
        Layers by name.

    Raises:
        SettingError: If the module has no sparse layer, or a pattern matches none.
    """
    layers = layers_of(pl_module)
    if not layers:
        raise SettingError(
            f"{type(pl_module).__name__} has no sparse layer: call psn_lightning.sparsify(model) or add the callback "
            "Sparsify"
        )
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SettingError(f"layers pattern {pattern!r} matches no sparse layer; layers: {', '.join(layers)}")
    if patterns is None:
        return layers
    return {name: layer for name, layer in layers.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def seed_of_run(seed: int | None) -> int:
    """Return a given seed; for None the seed of Lightning's ``seed_everything``, or 42 if it was not called."""
    return int(os.environ.get("PL_GLOBAL_SEED", "42")) if seed is None else seed


def log_now(trainer: pl.Trainer, metrics: Mapping[str, float], step: int) -> None:
    """Send metrics to all loggers immediately.

    Args:
        trainer: Trainer with the loggers.
        metrics: Values by metric name.
        step: Optimizer step of the values.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=step)


def log_epoch(trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
    """Send the metrics of an epoch to all loggers now; Lightning would send them after saving the epoch's checkpoint.

    Callbacks can monitor them. They are equal on all processes, or concern one process only, so that they are not
    averaged: ``LightningModule.log`` would take a collective operation for each.

    Args:
        trainer: Trainer with the loggers.
        metrics: Values by metric name.
    """
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
    log_now(trainer, metrics, trainer.global_step - 1)
