"""A causal transformer that reads Python's standard library, character by character."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

ASCII = 128  # size of the vocabulary
Batch = tuple[Tensor, ...]  # characters, and the character after each


class CharTransformer(pl.LightningModule):
    """A model of the next character.

    Args:
        context: Number of characters that a prediction may look back at.
        width: Width of a token.
        depth: Number of blocks: attention, then two dense layers.
        heads: Attention heads of a block; the number divides the width.
        lr: Learning rate of AdamW at the start; it falls to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(
        self,
        context: int = 128,
        width: int = 96,
        depth: int = 3,
        heads: int = 4,
        lr: float = 0.002,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.characters = nn.Embedding(ASCII, width)
        self.positions = nn.Embedding(context, width)
        block = partial(nn.TransformerEncoderLayer, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.ModuleList(block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, ASCII)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the character after each."""
        length = x.shape[1]
        tokens = self.characters(x) + self.positions.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length, x.device, tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, mask, is_causal=True)
        logits: Tensor = self.head(self.norm(tokens))
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy in nats per character."""
        x, y = batch
        return F.cross_entropy(self(x).flatten(0, 1), y.flatten())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and bits per character."""
        self.evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and bits per character."""
        self.evaluate(batch, "test")

    def evaluate(self, batch: Batch, stage: str) -> None:
        """Log loss and bits per character of a batch."""
        loss = self.loss(batch)
        self.log(f"{stage}/loss", loss, sync_dist=True)
        self.log(f"{stage}/bits_per_character", loss / math.log(2), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on a cosine schedule."""
        optimizer = AdamW(self.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule = CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class CharData(pl.LightningDataModule):
    """The modules of Python's standard library: eight files of ten for training, one for validation, one for tests.

    Args:
        context: Number of characters in a row.
        batch_size: Rows in a batch.
    """

    def __init__(self, context: int = 128, batch_size: int = 16) -> None:
        super().__init__()
        self.context, self.batch_size = context, batch_size
        self.rows: dict[str, TensorDataset] = {}

    def setup(self, stage: str) -> None:
        """Read the text."""
        files = sorted(Path(os.__file__).parent.glob("*.py"))
        train = [file for i, file in enumerate(files) if i % 5]
        self.rows = {"train": self.read(train), "val": self.read(files[::10]), "test": self.read(files[5::10])}

    def read(self, files: Sequence[Path]) -> TensorDataset:
        """Rows of ASCII codes, and the same rows one character later."""
        text = torch.frombuffer(bytearray(b"".join(file.read_bytes() for file in files)), dtype=torch.uint8)
        windows = text[text < ASCII].long().unfold(0, self.context + 1, self.context)
        return TensorDataset(windows[:, :-1], windows[:, 1:])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled rows."""
        return DataLoader(self.rows["train"], self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Rows in order."""
        return DataLoader(self.rows["val"], 4 * self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Rows in order."""
        return DataLoader(self.rows["test"], 4 * self.batch_size)
