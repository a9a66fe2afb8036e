"""STR, sparsity by learned thresholds, as a Lightning callback."""

from __future__ import annotations

import math

import lightning.pytorch as pl

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.latent import LatentWeights
from psn_lightning.callbacks.layers import log_epoch
from psn_lightning.dynamics import SoftThresholdLayer
from psn_lightning.errors import SettingError
from psn_lightning.nn import MaskedLayer


class STR(LatentWeights[SoftThresholdLayer]):
    """STR: weights below a threshold that each layer learns are 0, the others are shrunk by it.

    Source: Kusupati et al., 2020, arXiv 2002.03231. The weight is sign(θ) · relu(|θ| − sigmoid(s)); s is trained by the
    optimizer, in the group that holds the layer's weight. The sparsity has no target: it emerges from ``weight_decay``
    and ``initial``, and is what ``sparsity/realised`` says. After each epoch ``str/threshold/<layer>`` is logged.

    Args:
        initial: First value of s, at which the threshold sigmoid(s) is far below the weights. The paper's −3200 is for
            SGD over 100 epochs of ImageNet; Adam moves s by about its learning rate in a step.
        weight_decay: Weight decay λ of θ and s, ≥ 0, added to the gradients as by SGD; on top of the optimizer's own.
        layers: Glob patterns of the names of the layers to train so; all sparse layers by default.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(self, initial: float = -8.0, weight_decay: float = 1e-3, layers: list[str] | None = None) -> None:
        super().__init__(layers)
        if not math.isfinite(initial):
            raise SettingError(f"initial {initial} must be a finite number: the threshold is sigmoid(initial) at first")
        if not 0 <= weight_decay < math.inf:
            raise SettingError(f"weight_decay {weight_decay} must be a number ≥ 0")
        self.initial = initial
        self.weight_decay = weight_decay

    def make_layer(self, layer: MaskedLayer) -> SoftThresholdLayer:
        """Make the latent weights of a layer from its weights."""
        return SoftThresholdLayer(layer, self.initial, self.weight_decay)

    def _end_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the effective weights; averages follow their connections, which may change in every step."""
        ends = any(latent.is_stepping for latent in self.latent.values())
        super()._end_step(trainer, pl_module)
        if ends:
            follow_connections(trainer, pl_module)  # waits for the device only where there is an average

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the thresholds."""
        thresholds = {f"str/threshold/{name}": float(latent.threshold) for name, latent in self.latent.items()}
        log_epoch(trainer, thresholds)
