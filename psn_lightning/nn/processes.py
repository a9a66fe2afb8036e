"""Averages over the processes of a run, for tensors that DDP does not reduce."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def get_world_size() -> int:
    """Return the number of processes of the run; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def get_rank() -> int:
    """Return the number of this process, from 0; 0 without torch.distributed."""
    return dist.get_rank() if get_world_size() > 1 else 0


def average_over_processes(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes, in place; every process has to call this function."""
    if get_world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= get_world_size()
    return tensor
