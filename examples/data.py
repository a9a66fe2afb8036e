"""Fashion-MNIST (Xiao et al., 2017) as images."""

from __future__ import annotations

import os
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split
from torchvision.datasets import FashionMNIST

MEAN, STD = 0.2860, 0.3530  # of the training pixels

Batch = tuple[Tensor, ...]  # images, classes


class Rows(TensorDataset):
    """Rows of tensors, cut out a whole batch at a time."""

    def __getitems__(self, indices: list[int]) -> Batch:
        batch: Batch = self[indices]
        return batch


class FashionImages(pl.LightningDataModule):
    """Fashion-MNIST: 60,000 + 10,000 images, 1 × 28 × 28, of ten articles of clothing.

    Args:
        data_dir: Folder of ``FashionMNIST/raw``. None: ``PSN_DATA_DIR``, then ``~/.cache/torchvision``.
        batch_size: Images in a training batch.
        val_rows: Number of training images held out for validation.
        split_seed: Seed of that split.
    """

    def __init__(
        self, data_dir: str | None = None, batch_size: int = 128, val_rows: int = 5000, split_seed: int = 42
    ) -> None:
        super().__init__()
        self.data_dir = data_dir or os.environ.get("PSN_DATA_DIR") or Path.home() / ".cache" / "torchvision"
        self.batch_size, self.val_rows, self.split_seed = batch_size, val_rows, split_seed
        self.rows: dict[str, Dataset[Batch]] = {}

    def prepare_data(self) -> None:
        """Download what is not there."""
        FashionMNIST(self.data_dir, download=True)

    def setup(self, stage: str) -> None:
        """Read the images."""
        rows = self.read(train=True)
        generator = torch.Generator().manual_seed(self.split_seed)
        train, val = random_split(rows, [len(rows) - self.val_rows, self.val_rows], generator)
        self.rows = {"train": train, "val": val, "test": self.read(train=False)}

    def read(self, train: bool) -> Rows:
        """Normalised images, and their classes."""
        images = FashionMNIST(self.data_dir, train)
        return Rows(images.data.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD), images.targets)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled images."""
        return DataLoader(self.rows["train"], self.batch_size, shuffle=True, drop_last=True, collate_fn=tuple)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Images in order."""
        return DataLoader(self.rows["val"], 1000, collate_fn=tuple)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Images in order."""
        return DataLoader(self.rows["test"], 1000, collate_fn=tuple)
