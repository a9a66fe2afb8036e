"""A small vision transformer (Dosovitskiy et al., 2021) for Fashion-MNIST."""

from __future__ import annotations

from functools import partial

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

Batch = tuple[Tensor, ...]  # images, classes


class SmallViT(pl.LightningModule):
    """A classifier of images, 1 × 28 × 28, or of their 784 pixels.

    Args:
        patch: Side of a patch; it divides 28.
        width: Width of a token.
        depth: Number of blocks: attention, then two dense layers.
        heads: Attention heads of a block; the number divides the width.
        lr: Learning rate of AdamW at the start; it falls to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(
        self,
        patch: int = 4,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        lr: float = 0.002,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn((28 // patch) ** 2, width))
        block = partial(nn.TransformerEncoderLayer, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.Sequential(*(block(width, heads, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        images = x.reshape(-1, 1, 28, 28)
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(dim=1))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy; of the test set where the data module says that it evaluates that one."""
        self.evaluate(batch, getattr(self.trainer.datamodule, "evaluation_split", "val"))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy."""
        self.evaluate(batch, "test")

    def evaluate(self, batch: Batch, stage: str) -> None:
        """Log loss and accuracy of a batch."""
        x, y = batch
        logits = self(x)
        accuracy = (logits.argmax(dim=1) == y).float().mean()
        self.log(f"{stage}/loss", F.cross_entropy(logits, y), sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy, sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on a cosine schedule."""
        optimizer = AdamW(self.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule = CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
