"""Blocks of neurons, in which a layer is scored without a tensor of the size of its dense weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2**22  # positions per block; random growth draws block by block, so another size gives other connections


def blocks_of_neurons(positions: Tensor, n_out: int, n_in: int) -> Iterator[tuple[slice, Tensor]]:
    """Iterate over blocks of neurons that are small enough for dense matrices.

    Args:
        positions: Flat positions, ascending, see :meth:`SparseLayer.active_positions`.
        n_out: Number of neurons.
        n_in: Number of inputs.

    Yields:
        Slice of neurons, and the flat positions in the block, relative to the block's first position.
    """
    rows = max(1, _BLOCK // n_in)
    if rows >= n_out:  # one block, whose edges need not be read from a device
        yield slice(0, n_out), positions
        return
    for first in range(0, n_out, rows):
        last = min(first + rows, n_out)
        edges = torch.tensor([first * n_in, last * n_in], device=positions.device)
        start, stop = torch.searchsorted(positions, edges).tolist()
        yield slice(first, last), positions[start:stop] - first * n_in
