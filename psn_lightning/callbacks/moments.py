"""Optimizer state in checkpoints, the same for every storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from psn_lightning.nn import SparseLinear
from psn_lightning.task import SparseClassifier

_Convert = Callable[[SparseLinear, Tensor], Tensor]


class PortableMoments(pl.Callback):
    """Writes moments of sparse weights in CSR order, like the weights, and reads them into any storage."""

    def on_save_checkpoint(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        checkpoint: dict[str, Any],
    ) -> None:
        """Compress what the storage keeps otherwise."""
        _convert(checkpoint, pl_module, _compressed)

    def on_load_checkpoint(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        checkpoint: dict[str, Any],
    ) -> None:
        """Expand to what the storage keeps; the layers themselves may not be loaded yet."""
        positions = {
            layer: _positions(checkpoint["state_dict"], f"network.{name}", layer.in_features)
            for name, layer in pl_module.network.sparse_layers().items()
        }

        def expanded(layer: SparseLinear, moment: Tensor) -> Tensor:
            own = positions[layer]
            return layer.expand(moment, own) if moment.shape == own.shape else moment

        _convert(checkpoint, pl_module, expanded)


def _compressed(layer: SparseLinear, moment: Tensor) -> Tensor:
    return layer.compress(moment) if moment.shape == layer.weight.shape else moment


def _positions(state_dict: dict[str, Tensor], layer: str, n_in: int) -> Tensor:
    """Flat positions of a layer's connections in a checkpoint."""
    indptr, indices = state_dict[f"{layer}.indptr"], state_dict[f"{layer}.indices"]
    return torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff()) * n_in + indices


def _convert(checkpoint: dict[str, Any], pl_module: SparseClassifier, convert: _Convert) -> None:
    """Replace the moments of sparse weights in a checkpoint; the live optimizer's stay as they are."""
    layers = {id(layer.weight): layer for layer in pl_module.network.sparse_layers().values()}
    sparse = {i: layers[id(p)] for i, p in enumerate(pl_module.parameters()) if id(p) in layers}
    for state in checkpoint.get("optimizer_states", []):
        state["state"] = {
            index: {
                key: convert(sparse[index], value) if index in sparse and isinstance(value, Tensor) else value
                for key, value in entry.items()
            }
            for index, entry in state["state"].items()
        }
