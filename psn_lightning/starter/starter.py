"""A LightningModule to begin with: a small convolutional network for the 8 × 8 digits of scikit-learn."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Starter(pl.LightningModule):
    """An ordinary LightningModule: nothing in it knows of sparsity, which starter.yaml adds.

    Args:
        width: Channels of the convolutions.
        lr: Adam's learning rate.
    """

    def __init__(self, width: int = 32, lr: float = 0.003) -> None:
        super().__init__()
        self.lr = lr
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),  # the rows of the data have 64 pixels
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * width, 128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape ``(batch, 10)``, of rows of pixels, shape ``(batch, 64)``."""
        logits: Tensor = self.head(self.body(x))
        return logits

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log loss and accuracy on held-out rows."""
        x, y = batch
        logits = self(x)
        self.log("val/loss", F.cross_entropy(logits, y))
        self.log("val/accuracy", (logits.argmax(dim=1) == y).float().mean(), prog_bar=True)

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Columns of the table that ``psn-train predict`` writes."""
        x, y = batch
        return {"predicted": self(x).argmax(dim=1), "label": y}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)
