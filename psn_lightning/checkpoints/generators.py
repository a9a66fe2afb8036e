"""State of the global random generators in checkpoints."""

from __future__ import annotations

import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from psn_lightning.checkpoints.rank_states import gather_by_rank, pop_own_state

_KEY = "psn_lightning.generators"


class GeneratorState(pl.Callback):
    """Saves the global random generators of torch, numpy and Python of every process, and restores them on resume.

    Of this package only the noise of :class:`MixtureLayer` is drawn from them during a fit; dropout, augmentation and
    DataLoaders draw from them too.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] = []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all processes to the checkpoint."""
        checkpoint[_KEY] = gather_by_rank(trainer, get_generator_states(trainer.strategy.root_device))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until training starts: the setup of a run may draw random numbers."""
        self._restored = list(checkpoint.get(_KEY, []))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the generators of this process, unless the checkpoint was written by fewer processes."""
        if (states := pop_own_state(trainer, self._restored)) is not None:
            set_generator_states(states, trainer.strategy.root_device)


def get_generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators as tensors and plain values, which load with ``weights_only``.

    Args:
        device: Device of the run. Other devices of the machine are not asked: each question to CUDA would take half a
            gigabyte of the first one.
    """
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  # code of users draws from the global generator
    assert isinstance(numpy, dict)
    inner = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in numpy["state"].items()}
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": {**numpy, "state": inner},
        "python": random.getstate(),
    }


def set_generator_states(states: dict[str, Any], device: torch.device) -> None:
    """Set the states of the global generators.

    Args:
        states: States from :func:`get_generator_states`.
        device: Device of the run.
    """
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    numpy = states["numpy"]
    key = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})  # noqa: NPY002
    random.setstate(states["python"])
