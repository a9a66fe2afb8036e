"""Measurement of the share of positions that a dynamic rule has tried."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from psn_lightning.callbacks.dynamic import DynamicTopology, changes_of
from psn_lightning.callbacks.layers import layers_of, log_epoch

_LARGEST = 2**28  # positions of a layer that one byte each are kept for


class ExplorationMonitor(pl.Callback):
    """Logs ``topology/explored/<layer>`` after every epoch: share of a layer's positions that have ever been active.

    This is the in-time over-parameterisation rate R_s of ITOP (Liu et al., 2021, arXiv 2102.02887, section 3). Without
    a :class:`DynamicTopology`, and for layers of more than 2²⁸ positions, nothing is logged.
    """

    def __init__(self) -> None:
        self.explored: dict[str, Tensor] = {}
        """Positions that have been active, boolean, shape ``(n_out * n_in,)``, by layer name."""
        self._restored: dict[str, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the present connections, beside those of the run that is resumed."""
        self.explored = {}
        if not any(isinstance(callback, DynamicTopology) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            return
        for name, layer in layers_of(pl_module).items():
            size = layer.n_out * layer.n_in
            if size > _LARGEST:
                continue
            positions = layer.active_positions()
            marks = torch.zeros(size, dtype=torch.bool, device=positions.device)
            if name in self._restored:
                bits = np.unpackbits(self._restored[name].numpy(), count=size)
                marks |= torch.from_numpy(bits).to(marks.device).bool()
            marks[positions] = True
            self.explored[name] = marks
        self._restored = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Mark the connections of the layers that were updated in this batch."""
        changes = changes_of(trainer)
        if changes:
            layers = layers_of(pl_module)
            for name in changes.keys() & self.explored.keys():
                self.explored[name][layers[name].active_positions()] = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the shares."""
        shares = {
            f"topology/explored/{name}": int(marks.count_nonzero()) / len(marks)
            for name, marks in self.explored.items()
        }
        if shares:
            log_epoch(trainer, shares)

    def state_dict(self) -> dict[str, Any]:
        """Positions that have been active, as bits, by layer name."""
        packed = {name: torch.from_numpy(np.packbits(marks.cpu().numpy())) for name, marks in self.explored.items()}
        return packed or self._restored

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the positions until training starts.

        Args:
            state_dict: State from :meth:`state_dict`.
        """
        self._restored = dict(state_dict)
