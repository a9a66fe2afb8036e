"""Predictions as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from psn_lightning.errors import SettingError
from psn_lightning.files import atomically


class PredictionTable(BasePredictionWriter):
    """Writes the predictions of the test set as CSV: row, predicted, probability, label.

    Args:
        path: The file; an existing one is replaced.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse several processes: each would write its own part.

        Raises:
            SettingError: If there is more than one.
        """
        if stage == "predict" and trainer.world_size > 1:
            raise SettingError(f"predict runs on one process, not {trainer.world_size}: give --trainer.devices 1")

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the table.

        Raises:
            SettingError: If it cannot be written.
        """
        columns = {name: torch.cat([batch[name] for batch in predictions]).cpu().numpy() for name in predictions[0]}
        try:
            with atomically(self.path) as scratch:
                pd.DataFrame(columns).rename_axis("row").to_csv(scratch)
        except OSError as error:
            raise SettingError(f"predictions.path {self.path} cannot be written ({error.strerror})") from error
