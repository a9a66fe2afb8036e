"""Base of the DataModules: loading, checks, split, normalisation, batches."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader

from psn_lightning.data.dataset_files import DatasetFiles
from psn_lightning.data.rows import Rows, check_normalization
from psn_lightning.data.sampling import Batch, EpochOrder, TensorData, make_loader
from psn_lightning.data.sources import Source, search_roots
from psn_lightning.errors import SettingError

_EVALUATION_BATCH = 2000  # rows; accuracy does not depend on the batch
_SHARE_OF_DEVICE = 0.25  # of the device's free memory that rows may take


class ClassificationData(DatasetFiles, pl.LightningDataModule):
    """A classification data set in memory, served in batches.

    Files are searched in ``data_dir``, ``PSN_DATA_DIR``, the user's cache (``~/.cache/psn_lightning``) and the folders
    of system packages, then downloaded. Features are normalised with the statistics of the training rows.

    Args:
        data_dir: Folder to search first, and to download to.
        batch_size: Number of rows of a training batch, per process.
        val_fraction: Fraction of the training rows held out for validation, in [0, 1), stratified by class. 0 is the
            paper's protocol: the test set is evaluated after every epoch. Above 0 it is evaluated once, at the end.
        split_seed: Seed of every split. It does not depend on the seed of the run: runs are compared on equal rows.
        download: Whether to download files that are not found.

    Raises:
        SettingError: If an argument is out of range.
    """

    def __init__(
        self,
        data_dir: str | None = None,
        batch_size: int = 128,
        val_fraction: float = 0.0,
        split_seed: int = 42,
        download: bool = True,
    ) -> None:
        super().__init__(data_dir)
        if batch_size < 1:
            raise SettingError(f"batch_size {batch_size} must be at least 1")
        if not 0 <= val_fraction < 1:
            raise SettingError(f"val_fraction {val_fraction} is not in [0, 1): 0.1 holds out one row in ten")
        if isinstance(split_seed, bool) or not 0 <= split_seed < 2**32:
            raise SettingError(f"split_seed {split_seed} must be an integer from 0 to {2**32 - 1}")
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.download = download
        self._sets: dict[str, TensorData] = {}
        self._device: torch.device | None = None  # CUDA device for which it was decided whether the rows fit
        self._fits = False
        self._on_device: dict[str, TensorData] = {}
        self._provenance: dict[str, str] = {}

    @abstractmethod
    def load(self, source: Source) -> Rows:
        """Read the raw rows.

        Args:
            source: Files, in the order of ``names``.

        Raises:
            SettingError: If a file is damaged.
        """

    @property
    def evaluation_split(self) -> Literal["val", "test"]:
        """Split that is evaluated after every epoch."""
        return "val" if self.val_fraction > 0 else "test"

    def prepare_data(self) -> None:
        """Download files that are not found; Lightning calls this on one process of each machine.

        Raises:
            SettingError: If files are not found and ``download`` is false, or the download fails.
        """
        if self.locate() is not None:
            return
        if not self.download:
            searched = ", ".join(str(root / self.folder) for root in search_roots(self.data_dir))
            raise SettingError(
                f"{self.title} is not in {searched}; set PSN_DATA_DIR or data_dir, or allow the download (download "
                "true)"
            )
        self.download_files()

    def setup(self, stage: str | None = None) -> None:
        """Load, check, split and normalise the rows, once for all stages.

        Raises:
            SettingError: If files are not found or damaged, or rows cannot be split or normalised.
        """
        if self._sets:
            return
        source = self.locate()
        if source is None:
            raise SettingError(f"{self.title} is not on this machine; call prepare_data() first")
        where = f"{self.title} in {source.folder}"
        rows = self.load(source)
        rows.check(self.n_features, self.n_classes, where)
        self._provenance = self.identify(source, len(rows))
        sets = {
            "train": (rows.train_x, rows.train_y),
            "val": (rows.test_x[:0], rows.test_y[:0]),
            "test": (rows.test_x, rows.test_y),
        }
        if self.val_fraction > 0:
            for name, kept in zip(("train", "val"), self.split(rows.train_y, self.val_fraction), strict=True):
                sets[name] = rows.train_x[kept], rows.train_y[kept]
        features = {name: self.features(raw) for name, (raw, _) in sets.items()}
        mean, std = self.normalization(features["train"])
        check_normalization(mean, std, where)
        self._sets = {name: TensorData(x.sub_(mean).div_(std), sets[name][1]) for name, x in features.items()}

    def features(self, raw: Tensor) -> Tensor:
        """Features of raw rows before normalisation, as a new float32 tensor: it is normalised in place.

        Args:
            raw: Rows as :meth:`load` returned them, shape ``(n, n_features)``.
        """
        return raw.to(torch.float32, copy=True)

    def split(self, labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
        """Split rows by ``split_seed``, stratified by class.

        Args:
            labels: Label of each row, shape ``(n,)``.
            fraction: Fraction of the rows to hold out, in (0, 1).

        Returns:
            Indices of the rows kept and of the rows held out, both sorted.

        Raises:
            SettingError: If a class has too few rows.
        """
        try:
            from sklearn.model_selection import train_test_split  # 0.2 s, where rows are held out

            kept, held_out = train_test_split(
                np.arange(len(labels)), test_size=fraction, stratify=labels.numpy(), random_state=self.split_seed
            )
        except ValueError as error:
            raise SettingError(f"a fraction {fraction} of {len(labels)} rows cannot be held out: {error}") from error
        return torch.from_numpy(np.sort(kept)), torch.from_numpy(np.sort(held_out))

    def normalization(self, train_x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training rows, scalar or of shape ``(n_features,)``; here scalar.

        Args:
            train_x: Features of the training rows, shape ``(n, n_features)``.
        """
        return train_x.mean(), train_x.std()

    def description(self) -> dict[str, str]:
        """Provenance of the data, after ``setup``: name, completeness, digest, folder, sizes, seed of the split."""
        rows = ", ".join(f"{name} {len(rows)}" for name, rows in self._sets.items())
        return self._provenance | {"dataset.rows": rows, "dataset.split_seed": str(self.split_seed)}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches, the last one possibly smaller; the order is an :class:`EpochOrder`."""
        rows, pins = self._place("train")
        return make_loader(rows, self.batch_size, EpochOrder(rows, *self._ranks(), self._progress), pins)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of :attr:`evaluation_split`."""
        return self._evaluation_loader(self.evaluation_split)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test set."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test set, in order."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, name: str) -> DataLoader[Batch]:
        """Batches that give each row to exactly one process: a repeated row would count twice."""
        (rows, pins), (world_size, rank) = self._place(name), self._ranks()
        order = UnrepeatedDistributedSampler(rows, num_replicas=world_size, rank=rank, shuffle=False)
        return make_loader(rows, _EVALUATION_BATCH, order, pins)

    def _ranks(self) -> tuple[int, int]:
        """Number of processes, and the rank of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _place(self, name: str) -> tuple[TensorData, bool]:
        """Put a split where batches are taken from it: on the CUDA device of the run if all splits fit easily.

        With ``overfit_batches`` Lightning replaces the sampler, which must then be one of rows on the host.

        Returns:
            Rows, and whether their batches have to be pinned.
        """
        if self.trainer is None or self.trainer.strategy.root_device.type != "cuda":  # of the run, not of the machine
            return self._sets[name], False
        device = self.trainer.strategy.root_device
        if self._device != device:
            total = sum(rows.n_bytes for rows in self._sets.values())
            self._device, self._on_device = device, {}
            self._fits = total <= _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]
        if not self._fits or self.trainer.overfit_batches:  # type: ignore[attr-defined]
            return self._sets[name], True
        if name not in self._on_device:
            self._on_device[name] = self._sets[name].to(device)
        return self._on_device[name], False

    def _progress(self) -> tuple[int, int] | None:
        """Epoch and number of its rows already used, above 0 after a resume within an epoch; None outside of a fit."""
        if self.trainer is None or not self.trainer.training:
            return None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress
        epoch = (batches.total.completed - batches.current.ready) // int(self.trainer.num_training_batches)
        return epoch, batches.current.ready * self.batch_size
