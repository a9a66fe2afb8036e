"""The state of the random generators in every checkpoint."""

from __future__ import annotations

import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist

_KEY = "psn_lightning.generators"


class GeneratorState(pl.Callback):
    """Saves torch's, numpy's and Python's global generators of every process, and restores them.

    Nothing in this package draws from them during a fit; a user's dropout or augmentation may.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] = []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Gather the states of all processes; each takes part in saving."""
        checkpoint[_KEY] = gathered(trainer, generator_states())

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep them until training starts: what is set up until then may draw numbers."""
        self._restored = checkpoint.get(_KEY, [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set this process's generators; a process that the checkpoint does not know keeps its own."""
        if trainer.global_rank < len(self._restored):
            set_generator_states(self._restored[trainer.global_rank])
        self._restored = []


def gathered(trainer: pl.Trainer, mine: Any) -> list[Any]:
    """An object of every process, by rank; each process has to call it."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(everyone, mine)
    return everyone


def generator_states() -> dict[str, Any]:
    """The global generators' states as tensors and plain Python values (loadable with ``weights_only``)."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  # the global one is what users' code draws from
    assert isinstance(numpy, dict)
    inner = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in numpy["state"].items()}
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": {**numpy, "state": inner},
        "python": random.getstate(),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Undo whatever was drawn since :func:`generator_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    numpy = states["numpy"]
    key = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})  # noqa: NPY002
    random.setstate(states["python"])
