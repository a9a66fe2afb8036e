"""Table of predictions."""

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
    """Writes predictions to a CSV file with a row for each sample.

    The columns come from ``predict_step``. A dict of tensors of shape ``(batch,)`` gives a column for each key
    (predicted, probability and label for :class:`SparseClassifier`), a tensor of shape ``(batch,)`` the column
    ``predicted``, and a tensor of shape ``(batch, n)`` the columns ``predicted_0``, ``predicted_1``, …. With several
    predict dataloaders, the first column is the index of the dataloader, and ``row`` counts within each.

    Args:
        path: CSV file; an existing file is replaced.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that there is one process: each process has only a part of the predictions.

        Raises:
            SettingError: If there are several processes.
        """
        if stage == "predict" and trainer.world_size > 1:
            raise SettingError(f"predict runs on one process, not {trainer.world_size}: set trainer.devices to 1")

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the table.

        Args:
            trainer: Trainer of the predictions.
            pl_module: Module that made the predictions.
            predictions: Outputs of ``predict_step`` by batch; with several dataloaders, a list of them for each.
            batch_indices: Indices of the samples; not used.

        Raises:
            SettingError: If ``predict_step`` returned a type that is not supported, or the file cannot be written.
        """
        import pandas as pd  # takes 0.4 s, which a fit does not need

        if trainer.predict_loop.num_dataloaders == 1:
            table = pd.DataFrame(_concatenate(predictions)).rename_axis("row")
        else:
            loaders = {i: pd.DataFrame(_concatenate(batches)) for i, batches in enumerate(predictions) if batches}
            table = pd.concat(loaders, names=["dataloader", "row"])
        try:
            with atomically(self.path) as scratch:
                table.to_csv(scratch)
        except OSError as error:
            raise SettingError(
                f"predictions.path {self.path} cannot be written ({error.strerror}): give another path"
            ) from error


def _concatenate(predictions: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Concatenate the batches of one dataloader to columns.

    Args:
        predictions: Outputs of ``predict_step``, at least one.

    Returns:
        Arrays of shape ``(n_samples,)`` by column name.

    Raises:
        SettingError: If ``predict_step`` returned a type that is not supported.
    """
    batches = [_split_columns(batch) for batch in predictions]
    return {name: _to_array([batch[name] for batch in batches]) for name in batches[0]}


def _split_columns(batch: Any) -> dict[str, Tensor]:
    """Split an output of ``predict_step`` into columns, tensors of shape ``(batch,)``.

    Raises:
        SettingError: If the output is neither a tensor of one or two dimensions nor a dict of tensors of one dimension.
    """
    if isinstance(batch, Tensor) and batch.dim() == 2:
        batch = {f"predicted_{i}": column for i, column in enumerate(batch.unbind(dim=1))}
    elif isinstance(batch, Tensor):
        batch = {"predicted": batch}
    if isinstance(batch, dict) and all(isinstance(value, Tensor) and value.dim() == 1 for value in batch.values()):
        return batch
    raise SettingError(
        f"predict_step returned {_describe(batch)}, which does not fit into a table: return a tensor of shape (batch,) "
        "or (batch, n), or a dict of tensors of shape (batch,)"
    )


def _describe(batch: Any) -> str:
    """Type of an output of ``predict_step``; for tensors also the shape."""
    if isinstance(batch, dict):
        return f"a dict of {', '.join(f'{name}: {_describe(value)}' for name, value in batch.items())}"
    return f"a tensor of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__


def _to_array(parts: Sequence[Tensor]) -> NDArray[Any]:
    """Concatenate the tensors of a column; floats become float32, because numpy has no bfloat16."""
    column = torch.cat(list(parts)).cpu()
    array: NDArray[Any] = (column.float() if column.is_floating_point() else column).numpy()
    return array
