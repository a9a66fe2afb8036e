"""Logging of the connections and the arithmetic that training has taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from psn_lightning.callbacks.layers import layers_of, log_epoch
from psn_lightning.nn import SparseLayer


class TrainingCost(pl.Callback):
    """Logs how many connections a run has trained so far, so that methods whose density varies can be compared.

    After every epoch: ``cost/connections``, the active connections of all sparse layers, and ``cost/density``, their
    share of all positions, both as means over the backward passes so far; and ``cost/flops``, the floating-point
    operations of the sparse layers so far. A connection takes two operations per row in the forward pass, two for the
    gradient to the inputs and two for its own gradient. Where growth reads the gradient to absent connections, that
    step computes it for every position; where absent positions train (:class:`TopKAST`, :class:`STR`), for these.
    Biases, norms and layers that are not sparse are not counted, nor is the scoring of a saliency before training; a
    kernel is counted once per row, not at each of its places. Batches without a tensor have no rows to count, and no
    ``cost/flops``.

    The count is that of an implementation which stores and multiplies active weights only, as storages csr and groups
    do.
    """

    def __init__(self) -> None:
        self._layers: list[SparseLayer] = []
        self._rows = 0.0  # of the present batch, on all processes
        self._passes = 0
        self._connections: int | Tensor = 0  # summed over the passes, on the device where a sum is not known here
        self._flops: int | Tensor = 0  # whole numbers: a float32 of the device would drift
        self._misses_rows = False  # whether a batch had no rows to count

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the layers, and count from 0 if the run is a new one."""
        self._layers = list(layers_of(pl_module).values())
        if trainer.global_step == 0:
            self._passes, self._connections, self._flops, self._misses_rows = 0, 0, 0, False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the rows of the batch."""
        self._rows = count_rows(batch) * trainer.world_size

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the connections of this pass."""
        self._passes += 1
        self._misses_rows |= math.isnan(self._rows)
        rows = 0 if self._misses_rows else int(self._rows)
        for layer in self._layers:
            connections = layer.count_connections()
            self._connections += connections
            self._flops += (4 * connections + 2 * layer.count_gradients()) * rows

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the cost so far."""
        positions = sum(layer.n_out * layer.n_in for layer in self._layers)
        if positions and self._passes:
            mean = int(self._connections) / self._passes
            figures = {"cost/connections": mean, "cost/density": mean / positions}
            log_epoch(trainer, figures if self._misses_rows else {**figures, "cost/flops": float(self._flops)})

    def state_dict(self) -> dict[str, Any]:
        """Counts so far."""
        flops = None if self._misses_rows else int(self._flops)
        return {"passes": self._passes, "connections": int(self._connections), "flops": flops}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts of :meth:`state_dict`."""
        self._passes, self._connections = state_dict["passes"], state_dict["connections"]
        self._misses_rows = state_dict["flops"] is None
        self._flops = state_dict["flops"] or 0


def count_rows(batch: Any) -> float:
    """Count the rows of the first tensor in a batch; NaN if it holds none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else math.nan
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((rows for part in parts if not math.isnan(rows := count_rows(part))), math.nan)
