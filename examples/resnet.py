"""A small residual network (He et al., 2016) for Fashion-MNIST."""

from __future__ import annotations

from itertools import pairwise

import lightning.pytorch as pl
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

Batch = tuple[Tensor, ...]  # images, classes


class Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        same_shape = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if same_shape else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(pl.LightningModule):
    """A classifier of images, 1 × 28 × 28, or of their 784 pixels.

    Args:
        widths: Channels of each stage. A stage has two blocks; the first halves the sides of the image.
        lr: Learning rate of AdamW at the start; it falls to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), lr: float = 0.003, weight_decay: float = 0.01) -> None:
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages = pairwise((widths[0], *widths))
        self.stages = nn.Sequential(*(nn.Sequential(Block(i, o, 2), Block(o, o, 1)) for i, o in stages))
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        images = x.reshape(-1, 1, 28, 28)
        logits: Tensor = self.head(self.stages(self.stem(images)).mean(dim=(2, 3)))
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
