"""DataModules of the four data sets of the paper, and of the digits that need no download."""

from psn_lightning.data.base import ClassificationData, Rows
from psn_lightning.data.batches import Batch
from psn_lightning.data.images import MNIST, EMNISTBalanced, FashionMNIST
from psn_lightning.data.sources import Source
from psn_lightning.data.tables import Digits, ForestCover

DATASETS: dict[str, type[ClassificationData]] = {
    "mnist": MNIST,
    "fashion": FashionMNIST,
    "emnist": EMNISTBalanced,
    "forest": ForestCover,
    "digits": Digits,
}
"""The data sets by the short names used in conf/ and in the equilibrium tables."""

__all__ = [
    "DATASETS",
    "MNIST",
    "Batch",
    "ClassificationData",
    "Digits",
    "EMNISTBalanced",
    "FashionMNIST",
    "ForestCover",
    "Rows",
    "Source",
]
