"""Predictions as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.errors import SettingError
from psn_lightning.files import atomically


class PredictionTable(BasePredictionWriter):
    """Writes predictions as CSV, a row for each: of :class:`SparseClassifier` predicted, probability and label.

    Of another model's ``predict_step`` a dict of tensors ``(batch,)`` becomes columns of these names, a tensor
    ``(batch,)`` the column ``predicted``, and a tensor ``(batch, n)`` the columns ``predicted_0``, ``predicted_1``, ….

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
            raise SettingError(f"predict runs on one process, not {trainer.world_size}: give devices 1")

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
        import pandas as pd  # 0.4 s, which a fit does not need

        batches = [_columns(batch) for batch in predictions]
        columns = {name: _as_array([batch[name] for batch in batches]) for name in batches[0]}
        try:
            with atomically(self.path) as scratch:
                pd.DataFrame(columns).rename_axis("row").to_csv(scratch)
        except OSError as error:
            raise SettingError(f"predictions.path {self.path} cannot be written ({error.strerror})") from error


def _columns(batch: Any) -> dict[str, Tensor]:
    """What a ``predict_step`` returned, as columns.

    Raises:
        SettingError: If it is neither a tensor nor a dict of tensors of one dimension.
    """
    if isinstance(batch, Tensor) and batch.dim() == 2:
        batch = {f"predicted_{i}": column for i, column in enumerate(batch.unbind(dim=1))}
    elif isinstance(batch, Tensor):
        batch = {"predicted": batch}
    if isinstance(batch, dict) and all(isinstance(value, Tensor) and value.dim() == 1 for value in batch.values()):
        return batch
    raise SettingError(
        f"predict_step returned {type(batch).__name__}: a table needs a tensor (batch,) or (batch, n), or a dict of "
        "tensors (batch,) per batch"
    )


def _as_array(parts: Sequence[Tensor]) -> NDArray[Any]:
    """One column; numpy has no bfloat16."""
    column = torch.cat(list(parts)).cpu()
    array: NDArray[Any] = (column.float() if column.is_floating_point() else column).numpy()
    return array
