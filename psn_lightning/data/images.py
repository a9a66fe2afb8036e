"""MNIST, Fashion-MNIST and EMNIST-Balanced: 28 × 28 grey images, flattened."""

from __future__ import annotations

from abc import abstractmethod
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
from psn_lightning.errors import SettingError

_SIDES = (28, 28)


class IdxImages(ClassificationData):
    """Images in four IDX files, in torchvision's layout; not for direct use."""

    n_features = 784
    n_classes = 10
    official_rows = 70_000
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    torchvision_arguments: ClassVar[dict[str, Any]] = {}

    @property
    @abstractmethod
    def torchvision_class(self) -> type[datasets.MNIST]:
        """Torchvision's class of the same files."""

    def fetch(self, scratch: Path) -> Path:
        """Torchvision's mirrors, checksums and progress bar."""
        dataset = self.torchvision_class(str(scratch), download=True, **self.torchvision_arguments)
        return Path(dataset.raw_folder)

    def load(self, source: Source) -> Rows:
        """Pixels in [0, 1]."""
        train_images, train_labels, test_images, test_labels = source.files
        return Rows(*self._part(train_images, train_labels), *self._part(test_images, test_labels))

    def _part(self, images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
        images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1)
        if images.shape[1:] != _SIDES or len(images) == 0:
            raise SettingError(f"{images_path} has shape {images.shape}, not (n, 28, 28); delete it and fetch it again")
        if len(labels) != len(images):
            raise SettingError(
                f"{labels_path} has {len(labels)} labels for {len(images)} images; fetch both files again"
            )
        if labels.max() >= self.n_classes:
            raise SettingError(
                f"{labels_path} has labels outside 0 … {self.n_classes - 1} ({labels.max()}); "
                f"delete it and fetch it again"
            )
        return torch.tensor(self.upright(images)).flatten(1).float().div_(255), torch.tensor(labels).long()

    def upright(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn stored images ``(n, rows, columns)`` the right way up."""
        return images


# The official digests were computed from complete local files and agree with those that others publish for the files
# unpacked from the archives whose MD5 torchvision verifies.


class MNIST(IdxImages):
    """MNIST (LeCun et al., 1998): 60,000 + 10,000 handwritten digits."""

    title = "MNIST"
    folder = "MNIST/raw"
    official_digests = (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )
    torchvision_class = datasets.MNIST


class FashionMNIST(IdxImages):
    """Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 articles of clothing."""

    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"
    official_digests = (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    )
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
