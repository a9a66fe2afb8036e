"""Names, addresses, checksums and readers of the five data sets. Imports neither torch nor Lightning."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pooch

from psn_lightning.data.dataset_files import DatasetFiles
from psn_lightning.data.reading import Part, read_images, read_table
from psn_lightning.data.sources import Source

_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class IdxFiles(DatasetFiles):
    """Four IDX files, in torchvision's layout: training images and labels, test images and labels."""

    n_features = 784
    n_classes = 10
    official_rows = 70_000
    is_transposed: ClassVar[bool] = False  # whether images are stored transposed

    def read(self, source: Source) -> list[Part]:
        """Read the training and the test rows: images ``(n, 28, 28)`` uint8 and labels ``(n,)`` of each.

        Raises:
            SettingError: If a file is damaged, or images and labels do not fit together.
        """
        images, labels, test_images, test_labels = source.files
        pairs = ((images, labels), (test_images, test_labels))
        parts = [read_images(*pair, self.n_classes) for pair in pairs]
        return [(x.transpose(0, 2, 1) if self.is_transposed else x, y) for x, y in parts]


class TableFiles(DatasetFiles):
    """One CSV file without an official split into training and test rows."""

    first_label: ClassVar[int] = 0  # label of the first class in the file

    def read(self, source: Source) -> list[Part]:
        """Read all rows: features ``(n, n_features)`` float32 and labels ``(n,)`` from 0.

        Raises:
            SettingError: If the file is damaged or a label is unknown.
        """
        return [read_table(source.files[0], self.n_features, self.n_classes, self.first_label)]


# The official digests were computed from complete local files; they agree with those that others publish for the files
# unpacked from the archives with these MD5 sums, which are torchvision's.


class MNISTFiles(IdxFiles):
    """Files of MNIST."""

    title = "MNIST"
    folder = "MNIST/raw"
    names = _NAMES
    official_digests = (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/{name}",
        "https://storage.googleapis.com/cvdf-datasets/mnist/{name}",
    )
    registry: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    }


class FashionMNISTFiles(IdxFiles):
    """Files of Fashion-MNIST."""

    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"
    names = _NAMES
    official_digests = (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    )
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}",
    )
    registry: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    }

    def system_folders(self) -> list[Path]:
        """Folder of Debian's package ``dataset-fashion-mnist``."""
        return [Path("/usr/share/datasets/fashion-mnist")]


class EMNISTBalancedFiles(IdxFiles):
    """Files of EMNIST-Balanced, four of those in EMNIST's archive."""

    title = "EMNIST-Balanced"
    folder = "EMNIST/raw"
    names = tuple(f"emnist-balanced-{name.replace('t10k', 'test')}" for name in _NAMES)
    n_classes = 47
    official_rows = 131_600
    is_transposed = True
    mirrors = ("https://biometrics.nist.gov/cs_links/EMNIST/{name}",)
    registry: ClassVar[Mapping[str, str]] = {"gzip.zip": "md5:58c8d27c78d21e728a6bc7b3cc06412e"}

    def fetch(self, scratch: Path) -> Path:
        """Download the archive (560 MB), and unpack the four files."""
        super().fetch(scratch)
        unpack = pooch.Unzip(members=[f"gzip/{name}.gz" for name in self.names], extract_dir="unpacked")
        unpack(str(scratch / "gzip.zip"), "download", None)
        return scratch / "unpacked" / "gzip"

    def subset_title(self, rows: int) -> str:
        """Name of a subset in reports."""
        return f"EMNIST-47 subset ({rows} rows)"


class ForestCoverFiles(TableFiles):
    """File of Forest Cover Type: 54 integer columns, then the label 1 … 7."""

    title = "Covertype"
    folder = "covertype"
    names = ("covtype.data.gz",)
    n_features = 54
    n_classes = 7
    official_rows = 581_012
    first_label = 1
    mirrors = (
        "https://archive.ics.uci.edu/ml/machine-learning-databases/covtype/{name}",
        "https://ndownloader.figshare.com/files/5976039",  # scikit-learn's copy of the same file
    )
    registry: ClassVar[Mapping[str, str]] = {
        "covtype.data.gz": "sha256:614360d0257557dd1792834a85a1cdebfadc3c4f30b011d56afee7ffb5b15771"
    }

    def subset_title(self, rows: int) -> str:
        """Name of a subset in reports."""
        return f"Covertype {round(rows / 1000)}k subset"


class DigitsFiles(TableFiles):
    """File of the 8 × 8 digits, which ships with scikit-learn."""

    title = "Digits"
    folder = "digits"
    names = ("digits.csv",)
    n_features = 64
    n_classes = 10
    official_rows = 1_797

    def system_folders(self) -> list[Path]:
        """Folder inside scikit-learn, found without importing it."""
        found = importlib.util.find_spec("sklearn")
        return [Path(folder, "datasets", "data") for folder in (found and found.submodule_search_locations) or ()]


CATALOGUE: dict[str, type[IdxFiles] | type[TableFiles]] = {
    "mnist": MNISTFiles,
    "fashion": FashionMNISTFiles,
    "emnist": EMNISTBalancedFiles,
    "forest": ForestCoverFiles,
    "digits": DigitsFiles,
}
"""Files of the data sets by short name."""
