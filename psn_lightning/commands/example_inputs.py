"""Inputs of a forward pass, from the model or the data of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from psn_lightning.errors import SettingError

_ROWS = 8  # of a batch of the data


def find_example_inputs(
    model: pl.LightningModule, data: pl.LightningDataModule | None, is_ready: bool = False
) -> tuple[Tensor, ...]:
    """Find inputs of a model's forward pass.

    Args:
        model: Model; its ``example_input_array`` is taken if it has one.
        data: Data module; else the first rows of its validation data, or of its training data, are taken. The inputs
            are a batch that is a tensor, or the first entry of one that is a tuple or a list.
        is_ready: Whether the data module was set up.

    Returns:
        Inputs, on the device that the data are on.

    Raises:
        SettingError: If there are none.
    """
    given = model.example_input_array
    if given is not None:
        return _as_inputs(given)
    source: Any = data if data is not None else model
    base = pl.LightningDataModule if data is not None else pl.LightningModule
    names = [name for name in ("val_dataloader", "train_dataloader") if is_overridden(name, source, base)]
    if not names:
        raise _no_inputs(model, "there are no data")
    if data is not None and not is_ready:
        data.prepare_data()
        data.setup("fit")
    loader = getattr(source, names[0])()
    while isinstance(loader, (list, Mapping)):  # several dataloaders
        loader = next(iter(loader.values() if isinstance(loader, Mapping) else loader))
    batch = next(iter(loader))
    first = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(first, Tensor):
        raise _no_inputs(model, f"a batch has {type(first).__name__} in place of a tensor")
    return (first[:_ROWS],)


def _as_inputs(given: Any) -> tuple[Tensor, ...]:
    """Inputs from an ``example_input_array``."""
    inputs = (given,) if isinstance(given, Tensor) else given
    if not (isinstance(inputs, (tuple, list)) and inputs and all(isinstance(x, Tensor) for x in inputs)):
        raise SettingError("example_input_array must be a tensor, or a tuple of tensors, with rows as first dimension")
    return tuple(inputs)


def _no_inputs(model: pl.LightningModule, reason: str) -> SettingError:
    return SettingError(
        f"no example of the inputs of {type(model).__name__} is known, {reason}: give the model the attribute "
        "example_input_array, a tensor with rows as first dimension"
    )
