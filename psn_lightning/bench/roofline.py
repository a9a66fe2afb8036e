"""Roofline of the machine: measured peak of a dense product, measured bandwidth of a copy (Williams et al., 2009)."""

from __future__ import annotations

import torch

from psn_lightning.bench.timing import Row, summarise, time_in_turn

_SIDE = 2048  # of the dense product: large enough for the peak, small enough for a second
_COPIED = 2**28  # bytes of a copy, more than any last-level cache
_TILE = 64  # columns of a tile, see psn_lightning.kernels.workspace
BYTES_PER_CONNECTION = 24
"""Bytes that forward and backward pass move for a connection and a tile of 64 rows, float32 and 16-bit indices: weight
and index; gradient, read and written, and index; weight, index and its place again. Activations stay in the cache."""
FLOPS_PER_BYTE = 6 * _TILE / BYTES_PER_CONNECTION
"""Arithmetic intensity of forward and backward pass: a multiplication and an addition for each of three products."""


def measure_roofline(seconds: float) -> list[Row]:
    """Measure the peak and the bandwidth, each as a row with a ``rate`` in operations or bytes per second."""
    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    source = torch.ones(_COPIED // 4)
    target = torch.empty_like(source)
    calls = {"dense product": lambda: a @ b, "copy": lambda: target.copy_(source)}
    amounts = {"dense product": 2 * _SIDE**3, "copy": 2 * _COPIED}
    durations = time_in_turn(calls, seconds)
    rows = (summarise(own, part="roofline", kind=kind) for kind, own in durations.items())
    return [row | {"rate": amounts[row["kind"]] / row["median"]} for row in rows]
