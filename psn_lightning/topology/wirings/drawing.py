"""Windows on the ring of inputs, and draws without replacement, which several wirings share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.fan_in import FloatArray

_BLOCK = 2**20  # positions that are scored at a time


def draw_by_weight(
    n_in: int, fan_in: IntArray, log_weight: Callable[[IntArray], FloatArray], rng: np.random.Generator
) -> Connectivity:
    """Draw the inputs of each neuron one after the other, without replacement, in proportion to their weights.

    The k largest of log weight + Gumbel noise are such a draw (Vieira, 2014; Kool et al., 2019, arXiv 1903.06059).

    Args:
        n_in: Number of inputs.
        fan_in: Number of inputs to draw for each neuron, shape ``(n_out,)``.
        log_weight: Function from neurons, shape ``(rows,)``, to the logarithms of the inputs' weights, shape
            ``(rows, n_in)``.
        rng: Random generator.
    """
    rows = max(1, _BLOCK // n_in)
    parts = []
    for first in range(0, fan_in.size, rows):
        neurons = np.arange(first, min(first + rows, fan_in.size), dtype=np.int64)
        scores = log_weight(neurons) + rng.gumbel(size=(neurons.size, n_in))
        order = np.argsort(-scores, axis=1, kind="stable")
        chosen = np.zeros(order.shape, dtype=np.bool_)
        np.put_along_axis(chosen, order, np.arange(n_in) < fan_in[neurons, None], axis=1)
        parts.append(np.nonzero(chosen)[1])
    return Connectivity.from_fan_in(n_in, fan_in, np.concatenate(parts))


def centres(neurons: IntArray, n_in: int, n_out: int) -> FloatArray:
    """Place of neurons on the ring of inputs, (j + ½) · n_in / n_out − ½: the diagonal of the matrix."""
    return (neurons + 0.5) * n_in / n_out - 0.5


def ring_distance(neurons: IntArray, n_in: int, n_out: int) -> FloatArray:
    """Distance of neurons to all inputs on the ring of inputs, shape ``(rows, n_in)``."""
    apart: FloatArray = np.abs(np.arange(n_in) - centres(neurons, n_in, n_out)[:, None])
    return np.minimum(apart, n_in - apart)


def nearest_inputs(n_in: int, fan_in: IntArray) -> Connectivity:
    """Connect each neuron to the inputs nearest to its centre on the ring: one contiguous run."""
    neuron = np.arange(fan_in.size, dtype=np.int64)
    # ceil(centre - k / 2), in integers: a rounding error would break ties at random.
    start = -((fan_in.size + fan_in * fan_in.size - (2 * neuron + 1) * n_in) // (2 * fan_in.size))
    return connect_runs(n_in, start, fan_in)


def connect_runs(n_in: int, start: IntArray, fan_in: IntArray) -> Connectivity:
    """Connect each neuron to ``fan_in`` successive inputs on the ring.

    Args:
        n_in: Number of inputs.
        start: First input of each neuron, modulo ``n_in``, shape ``(n_out,)``.
        fan_in: Number of inputs of each neuron, shape ``(n_out,)``.
    """
    rows = np.repeat(np.arange(fan_in.size, dtype=np.int64), fan_in)
    step = np.arange(rows.size, dtype=np.int64) - np.repeat(np.cumsum(fan_in) - fan_in, fan_in)
    keys = np.sort(rows * n_in + (start[rows] + step) % n_in)
    return Connectivity.from_fan_in(n_in, fan_in, keys % n_in)
