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
        progress: Tells the epoch, and how many of its rows this process has had already; None leaves the epoch
            to ``set_epoch``. (Lightning's own count is off by one after some resumes with ``max_steps``.)
    """

    def __init__(
        self, rows: TensorData, world_size: int, rank: int, progress: Callable[[], tuple[int, int] | None]
    ) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # seed_everything leaves it there for all processes
        super().__init__(rows, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)
        self._progress = progress

    def __iter__(self) -> Iterator[int]:
        """Row numbers; epoch and place are asked for with the first one, when a checkpoint is restored."""
        epoch, seen = self._progress() or (self.epoch, 0)
        self.set_epoch(epoch)
        yield from islice(super().__iter__(), seen, None)


class ResumableLoader(DataLoader[Batch]):
    """A loader whose place in the epoch follows from the Trainer's own progress, see :class:`EpochOrder`.

    It therefore has no state; having the methods tells Lightning that a cut epoch is continued exactly.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""
