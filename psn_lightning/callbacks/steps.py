"""How long a run is."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException

from psn_lightning.errors import SettingError, compact


def total_steps(trainer: pl.Trainer) -> float:
    """Optimizer steps of the whole run; infinite where only time ends it.

    Raises:
        SettingError: If the Trainer's settings do not fit the number of batches.
    """
    try:
        return trainer.estimated_stepping_batches
    except (ValueError, MisconfigurationException) as error:
        raise SettingError.inside(error) or SettingError(f"trainer: {compact(error)}") from error
