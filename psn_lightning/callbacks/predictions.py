"""Predictions as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import BasePredictionWriter


class PredictionTable(BasePredictionWriter):
    """Writes the predictions of the test set as CSV: row, predicted, probability, label.

    Args:
        path: The file; an existing one is replaced.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the table."""
        columns = {name: torch.cat([batch[name] for batch in predictions]).cpu().numpy() for name in predictions[0]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).rename_axis("row").to_csv(self.path)
