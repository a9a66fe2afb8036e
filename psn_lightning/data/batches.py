"""Batches cut out of tensors in one indexing operation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch = tuple[Tensor, Tensor]


class TensorData(Dataset[Batch]):
    """Features ``(n, n_features)`` and labels ``(n,)``.

    torch's own TensorDataset gathers sample by sample; here the loader's ``__getitems__`` protocol takes
    the whole batch at once, and samplers (shuffling, Lightning's sharding) work as ever.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Batch:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.tensor(indices, dtype=torch.int64)
        return self.x.index_select(0, index), self.y.index_select(0, index)


def as_is(batch: Batch) -> Batch:
    """Collate function of batches that are batches already."""
    return batch
