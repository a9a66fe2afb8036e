"""Length of a run in optimizer steps."""

from __future__ import annotations

import math

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException

from psn_lightning.errors import SettingError, compact


def count_total_steps(trainer: pl.Trainer) -> float:
    """Count the optimizer steps of the whole run; infinite if only time limits the run.

    Raises:
        SettingError: If the Trainer's arguments do not fit the number of batches.
    """
    try:
        return trainer.estimated_stepping_batches
    except (ValueError, MisconfigurationException) as error:
        raise SettingError.inside(error) or SettingError(f"invalid Trainer arguments: {compact(error)}") from error


def count_steps_of_each(trainer: pl.Trainer, pl_module: pl.LightningModule, n_steps: float) -> float:
    """Count the steps of each optimizer: under manual optimization ``max_steps`` counts those of all together.

    Args:
        trainer: Trainer whose optimizers are made.
        pl_module: Module of the run.
        n_steps: Steps of the whole run, see :func:`count_total_steps`.
    """
    n = len(trainer.optimizers)
    shared = not pl_module.automatic_optimization and n > 1 and trainer.max_steps > 0
    return min(n_steps, math.ceil(trainer.max_steps / n)) if shared else n_steps
