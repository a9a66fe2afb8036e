"""Whole batches, and the order of the rows: by seed and epoch, sharded over processes, exact after a resume."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

Batch = tuple[Tensor, Tensor]
"""Features ``(batch, n_features)`` and labels ``(batch,)``."""


class TensorData(Dataset[Batch]):
    """Rows in memory, from which a batch is taken by one indexing operation; a TensorDataset collates row by row.

    The batch comes from the loader's ``__getitems__`` protocol, or from a sampler of index tensors.

    Args:
        x: Features, shape ``(n, n_features)``.
        y: Labels, shape ``(n,)``, on the same device.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int | Tensor) -> Batch:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.tensor(indices, dtype=torch.int64, device=self.y.device)
        return self.x.index_select(0, index), self.y.index_select(0, index)

    @property
    def n_bytes(self) -> int:
        """Size of features and labels in bytes."""
        return self.x.nbytes + self.y.nbytes

    def to(self, device: torch.device) -> TensorData:
        """Return the rows on a device."""
        return TensorData(self.x.to(device), self.y.to(device))


class EpochOrder(DistributedSampler[int]):
    """Training order that depends on the seed of the run and the epoch only.

    Process r of n takes every n-th row from the r-th on: n batches of size b are together the one batch of size n·b of
    a single process. Some rows are repeated to make the shares equal; none is left out. An epoch that a checkpoint has
    interrupted continues after the rows already used.

    Args:
        rows: Training rows.
        world_size: Number of processes.
        rank: Rank of this process.
        progress: Function that returns the epoch and the number of its rows that this process has used; None leaves the
            epoch to ``set_epoch``. (Lightning's own count is off by one after some resumes with ``max_steps``.)
    """

    def __init__(
        self, rows: TensorData, world_size: int, rank: int, progress: Callable[[], tuple[int, int] | None]
    ) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # written by seed_everything for all processes
        super().__init__(rows, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)
        self._progress = progress

    def __iter__(self) -> Iterator[int]:
        """Indices of the rows; the progress is asked for with the first one, after a checkpoint is restored."""
        epoch, seen = self._progress() or (self.epoch, 0)
        self.set_epoch(epoch)
        yield from islice(super().__iter__(), seen, None)


class BatchOrder(DistributedSampler[Tensor]):
    """Rows of each batch, as int64 index tensors ``(batch,)`` cut out of one tensor per epoch on the rows' device.

    Args:
        order: Sampler of the rows.
        batch_size: Number of rows of a batch; the last one may be smaller.
        device: Device of the rows.
    """

    def __init__(self, order: DistributedSampler[int], batch_size: int, device: torch.device) -> None:
        super().__init__(order.dataset, num_replicas=order.num_replicas, rank=order.rank)
        self._order, self._device = order, device
        self.batch_size = batch_size
        """Number of rows of a batch."""

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        rows = torch.tensor(list(self._order), dtype=torch.int64).to(self._device)
        for first in range(0, len(rows), self.batch_size):
            yield rows[first : first + self.batch_size]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the order of the rows."""
        self._order.set_epoch(epoch)


class ResumableLoader(DataLoader[Batch]):
    """Loader whose position in the epoch follows from the Trainer's progress, see :class:`EpochOrder`.

    It has no state. The two methods tell Lightning that an interrupted epoch continues exactly.
    """

    def state_dict(self) -> dict[str, Any]:
        """Empty state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Accept the empty state."""


def make_loader(
    rows: TensorData, batch_size: int, order: DistributedSampler[int], pin_memory: bool
) -> DataLoader[Batch]:
    """Make a loader of whole batches.

    Args:
        rows: Rows to load, on the host or on the device that trains.
        batch_size: Number of rows of a batch.
        order: Sampler of the rows.
        pin_memory: Whether batches go from the host to a CUDA device; pinning takes half a gigabyte of the device.
    """
    on_host = rows.y.device.type == "cpu"  # there the loader is an ordinary one, whose sampler Lightning may replace
    return ResumableLoader(
        rows,
        batch_size=batch_size if on_host else None,
        sampler=order if on_host else BatchOrder(order, batch_size, rows.y.device),
        collate_fn=keep_batch,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # otherwise every new iterator draws from the global generator
    )


def keep_batch(batch: Any) -> Any:
    """Collate function for whole batches; the default one turns the tuple into a list."""
    return batch
