"""What the callbacks ask of any LightningModule: its sparse layers, the seed, somewhere to log."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import lightning.pytorch as pl

from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer, sparse_layers


def layers_of(pl_module: pl.LightningModule) -> dict[str, SparseLayer]:
    """The sparse layers of a module, by the names under which their metrics are logged.

    These are the qualified names, unless the module has a method ``sparse_layers()`` that gives others.
    """
    named = getattr(pl_module, "sparse_layers", None)
    own = named() if callable(named) and not inspect.signature(named).parameters else None
    if isinstance(own, dict) and all(isinstance(layer, SparseLayer) for layer in own.values()):
        return own
    return sparse_layers(pl_module)


def chosen_layers(pl_module: pl.LightningModule, patterns: Sequence[str] | None) -> dict[str, SparseLayer]:
    """The sparse layers whose names match a glob pattern; None: all.

    Raises:
        SettingError: If there are none, or a pattern matches none.
    """
    layers = layers_of(pl_module)
    if not layers:
        raise SettingError(
            f"{type(pl_module).__name__} has no sparse layer: call psn_lightning.sparsify(model), or add the callback "
            "Sparsify"
        )
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SettingError(f"layers {pattern!r} matches none of the sparse layers {', '.join(layers)}")
    if patterns is None:
        return layers
    return {name: layer for name, layer in layers.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def seed_of_run(seed: int | None) -> int:
    """A seed as given; None: that of Lightning's ``seed_everything``, else 42."""
    return int(os.environ.get("PL_GLOBAL_SEED", "42")) if seed is None else seed


def log_now(trainer: pl.Trainer, metrics: Mapping[str, float], step: int) -> None:
    """Hand metrics to every logger at once."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=step)


def log_epoch(trainer: pl.Trainer, pl_module: pl.LightningModule, metrics: dict[str, float]) -> None:
    """Log figures of an epoch at once: Lightning would do so only after the epoch's checkpoint is saved."""
    pl_module.log_dict(metrics, logger=False, sync_dist=True)
    log_now(trainer, metrics, trainer.global_step - 1)
