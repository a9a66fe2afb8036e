"""MNIST, Fashion-MNIST and EMNIST-Balanced: 28 × 28 grey images, flattened."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import datasets

from psn_lightning.data.base import ClassificationData, Rows
from psn_lightning.data.idx import read_idx
from psn_lightning.data.sources import Source


class IdxImages(ClassificationData):
    """Images in four IDX files, in torchvision's layout; not for direct use."""

    n_features = 784
    n_classes = 10
    official_rows = 70_000
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    torchvision_class: ClassVar[type[datasets.MNIST]]
    torchvision_arguments: ClassVar[dict[str, Any]] = {}

    def fetch(self, scratch: Path) -> Path:
        """Torchvision's mirrors, checksums and progress bar."""
        dataset = self.torchvision_class(str(scratch), download=True, **self.torchvision_arguments)
        return Path(dataset.raw_folder)

    def load(self, source: Source) -> Rows:
        """Pixels in [0, 1]."""
        train_x, train_y, test_x, test_y = source.files
        return Rows(self._pixels(train_x), _labels(train_y), self._pixels(test_x), _labels(test_y))

    def _pixels(self, path: Path) -> Tensor:
        images = self.upright(read_idx(path, dimensions=3))
        return torch.tensor(images).flatten(1).float().div_(255)

    def upright(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn stored images ``(n, rows, columns)`` the right way up."""
        return images


class MNIST(IdxImages):
    """MNIST (LeCun et al., 1998): 60,000 + 10,000 handwritten digits."""

    title = "MNIST"
    folder = "MNIST/raw"
    torchvision_class = datasets.MNIST


class FashionMNIST(IdxImages):
    """Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 articles of clothing."""

    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"
    torchvision_class = datasets.FashionMNIST

    def system_folders(self) -> list[Path]:
        """Debian's package ``dataset-fashion-mnist``."""
        return [Path("/usr/share/datasets/fashion-mnist")]


class EMNISTBalanced(IdxImages):
    """EMNIST-Balanced (Cohen et al., 2017): 112,800 + 18,800 characters of 47 classes."""

    title = "EMNIST-Balanced"
    folder = "EMNIST/raw"
    n_classes = 47
    official_rows = 131_600
    names = (
        "emnist-balanced-train-images-idx3-ubyte",
        "emnist-balanced-train-labels-idx1-ubyte",
        "emnist-balanced-test-images-idx3-ubyte",
        "emnist-balanced-test-labels-idx1-ubyte",
    )
    torchvision_class = datasets.EMNIST
    torchvision_arguments: ClassVar[dict[str, Any]] = {"split": "balanced"}

    def upright(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """NIST stores them transposed."""
        return images.transpose(0, 2, 1)

    def subset_title(self, rows: int) -> str:
        """As other reports name it."""
        return f"EMNIST-47 subset ({rows} rows)"


def _labels(path: Path) -> Tensor:
    return torch.tensor(read_idx(path, dimensions=1)).long()
