"""Which rows a process sees, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from psn_lightning.data.batches import Batch, TensorData


class EpochOrder(DistributedSampler[int]):
    """Training order that is a function of the run's seed and the epoch, and of nothing else.

    Process r of n takes every n-th row from the r-th on, so that n batches of size b are together the one
    batch of size n·b of a single process. Rows are repeated to make the shares equal, none is left out. An
    epoch that a checkpoint has cut is taken up behind the rows that it has seen.

    Args:
        rows: The training rows.
        world_size: Number of processes.
        rank: Which of them this is.
        seen: Tells how many rows of the epoch this process has had already.
    """

    def __init__(self, rows: TensorData, world_size: int, rank: int, seen: Callable[[], int]) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # seed_everything leaves it there for all processes
        super().__init__(rows, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)
        self._seen = seen

    def __iter__(self) -> Iterator[int]:
        """Row numbers; what is skipped is decided when the first one is asked for."""
        yield from islice(super().__iter__(), self._seen(), None)


class ResumableLoader(DataLoader[Batch]):
    """A loader whose place in the epoch follows from the Trainer's own progress, see :class:`EpochOrder`.

    It therefore has no state; having the methods tells Lightning that a cut epoch is continued exactly.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""
