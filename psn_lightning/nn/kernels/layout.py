"""From batches to tiles and back: ``(batch, n)`` ↔ ``(n_tiles, n, width)``."""

from __future__ import annotations

import functools

from numba import carray, cfunc, void

from psn_lightning.nn.kernels.pool import REALS, Job, next_piece, pointer_to
from psn_lightning.nn.kernels.vectors import lanes_of, transpose_block


def pack(itemsize: int, width: int) -> int:
    """Address of the kernel that fills tiles from a batch; columns beyond the batch become 0.

    Its arguments: n_rows, n, n_tiles, and the addresses of the batch ``(n_rows, n)`` and of the tiles.
    """
    return _mover(itemsize, width, packing=True)


def unpack(itemsize: int, width: int) -> int:
    """Address of the kernel that fills a batch from tiles; arguments as for :func:`pack`."""
    return _mover(itemsize, width, packing=False)


@functools.cache
def _mover(itemsize: int, width: int, packing: bool) -> int:
    real, lanes = REALS[itemsize], lanes_of(itemsize)

    @cfunc(void(Job), cache=True)
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_pieces, n_rows, n, n_tiles = job[1], job[2], job[3], job[4]
        batch = carray(pointer_to(job[5], real), (n_rows, n))
        tiles = carray(pointer_to(job[6], real), (n_tiles, n, width))
        n_groups = (n + lanes - 1) // lanes
        piece = next_piece(job)
        while piece < n_pieces:
            for group in range(piece * n_groups // n_pieces, (piece + 1) * n_groups // n_pieces):
                first, last = group * lanes, min(n, (group + 1) * lanes)
                for t in range(n_tiles):
                    count = min(width, n_rows - t * width)
                    whole = count // lanes * lanes if last - first == lanes else 0
                    for column in range(0, whole, lanes):
                        in_batch, in_tile = (t * width + column) * n + first, (t * n + first) * width + column
                        if packing:
                            transpose_block(batch, in_batch, n, tiles, in_tile, width)
                        else:
                            transpose_block(tiles, in_tile, width, batch, in_batch, n)
                    for column in range(whole, count):  # what is left at the edges
                        for i in range(first, last):
                            if packing:
                                tiles[t, i, column] = batch[t * width + column, i]
                            else:
                                batch[t * width + column, i] = tiles[t, i, column]
                    if packing:
                        for i in range(first, last):
                            tiles[t, i, count:] = 0
            piece = next_piece(job)

    address: int = kernel.address
    return address
