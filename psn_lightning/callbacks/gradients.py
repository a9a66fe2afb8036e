"""Logging of gradient concentration at hub neurons."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np

from psn_lightning.callbacks.layers import layers_of, log_epoch
from psn_lightning.topology.statistics import gradient_ratio


class GradientRatio(pl.Callback):
    """Logs the gradient ratio of hubs to specialists on the last training batch of every epoch.

    The ratio is defined in arXiv 2604.10560, section 2.9. ``gradient/ratio/<layer>`` averages |gradient| over all
    positions of a neuron, absent ones as 0, as in the paper; ``gradient/ratio_active/<layer>`` averages over active
    connections only; ``gradient/ratio`` is the mean of ``gradient/ratio/<layer>`` over layers.
    """

    def __init__(self) -> None:
        self._due = False
        self._metrics: dict[str, float] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Determine whether this batch is the last of the epoch or the run."""
        ends_run = trainer.global_step + 1 == trainer.max_steps
        self._due = ends_run or batch_idx + 1 == trainer.num_training_batches or trainer.is_last_batch

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the ratio while the gradient is averaged over processes and not yet removed by a topology update."""
        if not self._due:
            return
        ratios, actives = {}, {}
        for name, layer in layers_of(pl_module).items():
            if layer.parameter.grad is None:
                continue  # frozen, or not part of this loss
            magnitude = layer.gradient_magnitude().float().cpu().numpy()
            ratios[name], actives[name] = gradient_ratio(magnitude, layer.connectivity)
        self._metrics = {f"gradient/ratio/{name}": ratio for name, ratio in ratios.items()}
        self._metrics |= {f"gradient/ratio_active/{name}": ratio for name, ratio in actives.items()}
        if ratios:
            self._metrics["gradient/ratio"] = float(np.mean(list(ratios.values())))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the ratios of the epoch."""
        log_epoch(trainer, self._metrics)
        self._metrics = {}

    def state_dict(self) -> dict[str, Any]:
        """Ratios that were measured but not logged yet."""
        return dict(self._metrics)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the ratios from :meth:`state_dict`."""
        self._metrics = dict(state_dict)
