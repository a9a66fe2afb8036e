"""Spreading: the inputs of each neuron, given its fan-in (section 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity, IntArray

SpreadingName = Literal["even", "random", "sequential"]
"""Name of a choice of the inputs of neurons whose fan-in is given."""

_GOLDEN = (np.sqrt(5.0) - 1) / 2


def spread(fan_in: IntArray, n_in: int, spreading: SpreadingName, rng: np.random.Generator) -> Connectivity:
    """Choose the inputs of each neuron.

    Args:
        fan_in: Fan-in of each neuron, shape ``(n_out,)``, in [0, n_in].
        n_in: Number of inputs.
        spreading: ``even`` (Eq. 8), ``random`` (without replacement) or ``sequential`` (inputs 0 … fan_in - 1, a
            counterexample that leaves the last inputs unused).
        rng: Random generator, used by ``random`` only.

    Returns:
        Connectivity whose fan-in is exactly ``fan_in``.

    Raises:
        SettingError: If the spreading is unknown.
    """
    if spreading not in _SPREADINGS:
        raise SettingError(f"spreading {spreading!r} is not one of {', '.join(get_args(SpreadingName))}")
    return Connectivity.from_fan_in(n_in, fan_in, _SPREADINGS[spreading](fan_in, n_in, rng))


def _spread_evenly(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Compute floor(j · n_in / k + o) of Eq. 8 in integers: a rounding error could repeat an input."""
    rows = np.repeat(np.arange(fan_in.size, dtype=np.int64), fan_in)
    step = _number_inputs(fan_in)
    offset = n_in * np.modf(np.arange(fan_in.size) * _GOLDEN)[0]
    whole = np.floor(offset).astype(np.int64)
    # floor(j n / k + r) = (j n + floor(r k)) // k for 0 <= r < 1: exact, and r k stays below k.
    part = np.minimum(np.floor((offset - whole) * fan_in).astype(np.int64), np.maximum(fan_in - 1, 0))
    inputs = (step * n_in + part[rows]) // fan_in[rows] + whole[rows]
    return np.sort(rows * n_in + inputs % n_in) % n_in


def _spread_randomly(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Draw the inputs of each neuron without replacement."""
    inputs, first = np.empty(int(fan_in.sum()), dtype=np.int64), 0
    for k in fan_in.tolist():
        own = inputs[first : first + k]
        own[:] = rng.choice(n_in, size=k, replace=False, shuffle=False)
        own.sort()
        first += k
    return inputs


def _spread_sequentially(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Take the inputs 0 … k - 1 of each neuron."""
    return _number_inputs(fan_in)


def _number_inputs(fan_in: IntArray) -> IntArray:
    """Number the inputs of each neuron 0 … k - 1, concatenated."""
    starts = np.cumsum(fan_in) - fan_in
    return np.arange(int(fan_in.sum()), dtype=np.int64) - np.repeat(starts, fan_in)


_SPREADINGS: dict[str, Callable[[IntArray, int, np.random.Generator], IntArray]] = {
    "even": _spread_evenly,
    "random": _spread_randomly,
    "sequential": _spread_sequentially,
}
