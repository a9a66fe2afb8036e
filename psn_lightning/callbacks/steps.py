"""Length of a run in optimizer steps."""

from __future__ import annotations

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
