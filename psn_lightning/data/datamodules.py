"""DataModules of the five data sets; importing this module makes all of them known to the command line."""

from __future__ import annotations

import torch
from torch import Tensor

from psn_lightning.data.base import ClassificationData as ClassificationData
from psn_lightning.data.catalogue import (
    DigitsFiles,
    EMNISTBalancedFiles,
    FashionMNISTFiles,
    ForestCoverFiles,
    IdxFiles,
    MNISTFiles,
    TableFiles,
)
from psn_lightning.data.rows import Rows
from psn_lightning.data.sources import Source
from psn_lightning.errors import SettingError

_TEST_FRACTION = 0.2
_N_CONTINUOUS = 10  # the first columns of Covertype; the other 44 are indicators


class IdxImages(IdxFiles, ClassificationData):
    """Images in four IDX files; base of the three data sets of images."""

    def load(self, source: Source) -> Rows:
        """Read the images as bytes, shape ``(n, 784)``: a quarter of the memory of floats."""
        train, test = [(torch.from_numpy(x).flatten(1), torch.from_numpy(y)) for x, y in self.read(source)]
        return Rows(*train, *test)

    def features(self, raw: Tensor) -> Tensor:
        """Pixels in [0, 1]."""
        return super().features(raw).div_(255)


class MNIST(MNISTFiles, IdxImages):
    """MNIST (LeCun et al., 1998): 60,000 + 10,000 handwritten digits."""


class FashionMNIST(FashionMNISTFiles, IdxImages):
    """Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 articles of clothing."""


class EMNISTBalanced(EMNISTBalancedFiles, IdxImages):
    """EMNIST-Balanced (Cohen et al., 2017): 112,800 + 18,800 characters of 47 classes."""


class TabularData(TableFiles, ClassificationData):
    """Rows of a table, split 80/20 into training and test rows by ``split_seed``; base of the two tables."""

    def load(self, source: Source) -> Rows:
        """Read the rows and split them, stratified by class.

        Raises:
            SettingError: If the file is damaged, or a class has too few rows to be split.
        """
        ((features, labels),) = self.read(source)
        x, y = torch.from_numpy(features), torch.from_numpy(labels)
        try:
            train, test = self.split(y, _TEST_FRACTION)
        except SettingError as error:
            raise SettingError(f"{source.files[0]}: {error}; delete it and download it again") from error
        return Rows(x[train], y[train], x[test], y[test])


class ForestCover(ForestCoverFiles, TabularData):
    """Forest Cover Type (Blackard and Dean, 1999): 581,012 rows, 54 columns, 7 classes.

    The ten continuous columns are standardised on the training rows; the 44 indicators keep their values.
    """

    def normalization(self, train_x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each continuous column; 0 and 1 for the indicators."""
        mean, std = torch.zeros(self.n_features), torch.ones(self.n_features)
        mean[:_N_CONTINUOUS] = train_x[:, :_N_CONTINUOUS].mean(dim=0)
        std[:_N_CONTINUOUS] = train_x[:, :_N_CONTINUOUS].std(dim=0)
        return mean, std


class Digits(DigitsFiles, TabularData):
    """8 × 8 digits that ship with scikit-learn: 1,797 images, 64 pixels in 0 … 16, 10 classes; no download."""


DATASETS: dict[str, type[ClassificationData]] = {
    "mnist": MNIST,
    "fashion": FashionMNIST,
    "emnist": EMNISTBalanced,
    "forest": ForestCover,
    "digits": Digits,
}
"""DataModules by the short names used in conf/ and in the equilibrium tables."""
