"""What every data module shares: finding, loading, splitting, normalising, batching."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from psn_lightning.data.batches import Batch, TensorData, as_is
from psn_lightning.data.digests import verify_official, verify_sums
from psn_lightning.data.downloads import fetch_into
from psn_lightning.data.sampling import EpochOrder, ResumableLoader
from psn_lightning.data.sources import Source, find, search_roots
from psn_lightning.errors import SettingError

_EVALUATION_BATCH = 2000  # accuracy does not depend on it
_ROUNDING = 2e-6  # of a mean: what float32 makes of the standard deviation of equal values


@dataclass(frozen=True)
class Rows:
    """Raw training and test rows: features ``(n, n_features)``, labels ``(n,)`` int64."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def __len__(self) -> int:
        return len(self.train_y) + len(self.test_y)


class ClassificationData(pl.LightningDataModule, ABC):
    """A data set held in memory, served in whole batches.

    Files are looked for in ``data_dir``, ``PSN_DATA_DIR``, ``~/.cache/psn_lightning`` and, where a system
    package has them, there; else they are downloaded. Features are normalised with the statistics of the
    rows that are trained on.

    Args:
        data_dir: Folder to look in first, and to download to.
        batch_size: Training batch, per process.
        val_fraction: Share of the training rows held out, stratified by class. 0 is the paper's protocol:
            the test set is evaluated after every epoch. Above 0 it is evaluated once, at the end.
        split_seed: Seed of every split, independent of the run's seed: runs are compared on the same rows.
        download: Whether to fetch what is not found.

    Raises:
        SettingError: If a value is out of range.
    """

    title: ClassVar[str]
    folder: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    n_features: ClassVar[int]
    n_classes: ClassVar[int]
    official_rows: ClassVar[int]
    official_digests: ClassVar[tuple[str, ...]] = ()  # SHA-256 of each unpacked file of the complete set, if known

    def __init__(
        self,
        data_dir: str | None = None,
        batch_size: int = 128,
        val_fraction: float = 0.0,
        split_seed: int = 42,
        download: bool = True,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise SettingError(f"batch_size {batch_size} must be at least 1")
        if not 0 <= val_fraction < 1:
            raise SettingError(f"val_fraction {val_fraction} is not in [0, 1): 0.1 holds out one row in ten")
        if isinstance(split_seed, bool) or not 0 <= split_seed < 2**32:
            raise SettingError(f"split_seed {split_seed} must be an integer from 0 to {2**32 - 1}")
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.download = download
        self._sets: dict[str, TensorData] = {}
        self._provenance: dict[str, str] = {}

    @abstractmethod
    def fetch(self, scratch: Path) -> Path:
        """Download into ``scratch``, verify, and return the folder that holds the files."""

    @abstractmethod
    def load(self, source: Source) -> Rows:
        """Read the raw rows.

        Raises:
            SettingError: If a file is damaged.
        """

    @property
    def evaluation_split(self) -> Literal["val", "test"]:
        """What is evaluated after every epoch."""
        return "val" if self.val_fraction > 0 else "test"

    def system_folders(self) -> list[Path]:
        """Folders of system packages that may hold the files."""
        return []

    def locate(self) -> Source | None:
        """The files, if they are on this machine.

        Raises:
            SettingError: If something is in a file's place that cannot be read as one.
        """
        roots = [root / self.folder for root in search_roots(self.data_dir)]
        return find([*roots, *self.system_folders()], self.names)

    def prepare_data(self) -> None:
        """Download what is not there (Lightning calls this on one process of each machine).

        Raises:
            SettingError: If it is not there and may not be, or cannot be, downloaded.
        """
        if self.locate() is None:
            roots = search_roots(self.data_dir)
            if not self.download:
                raise SettingError(
                    f"{self.title} is not in {', '.join(str(r / self.folder) for r in roots)}; "
                    "set PSN_DATA_DIR or data_dir, or allow the download (download true)"
                )
            fetch_into(roots[0] / self.folder, self.names, self.fetch, self.title)

    def setup(self, stage: str | None = None) -> None:
        """Load, verify, split and normalise; only once, whatever the stages.

        Raises:
            SettingError: If the files are not there, damaged, or not what they were when they were downloaded.
        """
        if self._sets:
            return
        source = self._source()
        verify_sums(source)
        rows = self._checked(self.load(source), source)
        digest, each = source.digests()
        complete = len(rows) == self.official_rows
        if complete:
            verify_official(source, each, self.official_digests)
        train_x, train_y, val_x, val_y = rows.train_x, rows.train_y, rows.test_x[:0], rows.test_y[:0]
        if self.val_fraction > 0:
            train, val = self.split(train_y, self.val_fraction)
            train_x, train_y, val_x, val_y = train_x[train], train_y[train], train_x[val], train_y[val]
        mean, std = self._checked_normalization(train_x, source)
        self._provenance = {
            "dataset.name": self.title if complete else self.subset_title(len(rows)),
            "dataset.completeness": "complete" if complete else "subset",
            "dataset.digest": digest,
            "dataset.folder": str(source.folder),
        }
        self._sets = {
            "train": TensorData((train_x - mean) / std, train_y),
            "val": TensorData((val_x - mean) / std, val_y),
            "test": TensorData((rows.test_x - mean) / std, rows.test_y),
        }

    def _source(self) -> Source:
        source = self.locate()
        if source is None:
            raise SettingError(f"{self.title} was not found; call prepare_data() first")
        return source

    def _checked(self, rows: Rows, source: Source) -> Rows:
        where = f"{self.title} in {source.folder}"
        for x, y in ((rows.train_x, rows.train_y), (rows.test_x, rows.test_y)):
            if x.shape != (len(y), self.n_features) or len(y) == 0:
                raise SettingError(
                    f"{where}: features of shape {tuple(x.shape)} and {len(y)} labels do not fit together "
                    f"({self.n_features} features expected); fetch the files again"
                )
            if int(y.min()) < 0 or int(y.max()) >= self.n_classes:
                raise SettingError(f"{where}: labels outside 0 … {self.n_classes - 1}; fetch the files again")
            if not torch.isfinite(x).all():
                raise SettingError(f"{where}: features that are not finite; fetch the files again")
        return rows

    def _checked_normalization(self, train_x: Tensor, source: Source) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that can be normalised with: else every loss would be NaN."""
        mean, std = self.normalization(train_x)
        wrong = ~(mean.isfinite() & std.isfinite() & (std > _ROUNDING * mean.abs()))
        if wrong.any():
            column = f" of column {int(wrong.nonzero()[0]) + 1}" if std.ndim else ""
            raise SettingError(
                f"{self.title} in {source.folder}: mean {mean[wrong][0]:g} and standard deviation {std[wrong][0]:g}"
                f"{column} over the {len(train_x)} training rows cannot normalise them; fetch the files again"
            )
        return mean, std

    def split(self, labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
        """Stratified split by ``split_seed``: row numbers kept, and held out (a share ``fraction``)."""
        try:
            kept, held_out = train_test_split(
                np.arange(len(labels)), test_size=fraction, stratify=labels.numpy(), random_state=self.split_seed
            )
        except ValueError as error:
            raise SettingError(f"a share {fraction} of {len(labels)} rows cannot be held out: {error}") from error
        return torch.from_numpy(np.sort(kept)), torch.from_numpy(np.sort(held_out))

    def normalization(self, train_x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation to normalise with, from the training rows; here one of each."""
        return train_x.mean(), train_x.std()

    def description(self) -> dict[str, str]:
        """What the run was fed: name, complete or subset, digest of the files, sizes, seed of the split.

        Call it after :meth:`setup`.
        """
        rows = ", ".join(f"{name} {len(rows)}" for name, rows in self._sets.items())
        return self._provenance | {"dataset.rows": rows, "dataset.split_seed": str(self.split_seed)}

    def subset_title(self, rows: int) -> str:
        """How to report data that are not the official, complete set."""
        return f"{self.title} subset ({rows} rows)"

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches; the last one may be smaller. See :class:`EpochOrder`."""
        rows = self._sets["train"]
        order = EpochOrder(rows, *self._place(), self._progress)
        return self._loader(rows, self.batch_size, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """What is evaluated after every epoch: see :attr:`evaluation_split`."""
        return self._evaluation_loader(self.evaluation_split)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test set."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test set, in order."""
        return self._evaluation_loader("test")

    def _place(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _progress(self) -> tuple[int, int] | None:
        """Epoch, and its rows that are behind; above 0 only after a resume in mid-epoch."""
        if self.trainer is None or not self.trainer.training:
            return None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress
        epoch = (batches.total.completed - batches.current.ready) // int(self.trainer.num_training_batches)
        return epoch, batches.current.ready * self.batch_size

    def _evaluation_loader(self, name: str) -> DataLoader[Batch]:
        """Each row on exactly one process: a repeated one would count twice."""
        rows = self._sets[name]
        world_size, rank = self._place()
        order = UnrepeatedDistributedSampler(rows, num_replicas=world_size, rank=rank, shuffle=False)
        return self._loader(rows, _EVALUATION_BATCH, order)

    @staticmethod
    def _loader(rows: TensorData, batch_size: int, order: DistributedSampler[int]) -> DataLoader[Batch]:
        return ResumableLoader(
            rows,
            batch_size=batch_size,
            sampler=order,
            collate_fn=as_is,  # type: ignore[arg-type]  # __getitems__ hands over a batch, not a list
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every new iterator draws from the global one
        )
