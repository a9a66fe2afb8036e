"""Spreading: from the fan-in of each neuron to the very inputs it reads (section 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity, IntArray

SpreadingName = Literal["even", "random", "sequential"]

_GOLDEN = (np.sqrt(5.0) - 1) / 2


def spread(fan_in: IntArray, n_in: int, spreading: SpreadingName, rng: np.random.Generator) -> Connectivity:
    """Choose the inputs of each neuron.

    Args:
        fan_in: Fan-in per neuron, shape ``(n_out,)``, within [0, n_in].
        n_in: Number of inputs.
        spreading: ``even`` (Eq. 8), ``random`` (without replacement) or ``sequential`` (inputs 0 … k - 1,
            kept to show what it breaks).
        rng: Source of randomness of ``random``.

    Returns:
        The connectivity; its fan-in is exactly ``fan_in``.

    Raises:
        SettingError: If the spreading is not one of the three.
    """
    if spreading not in _SPREADINGS:
        raise SettingError(f"spreading {spreading!r} is not one of {', '.join(get_args(SpreadingName))}")
    return Connectivity.from_fan_in(n_in, fan_in, _SPREADINGS[spreading](fan_in, n_in, rng))


def _even(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Eq. 8 in integers: floor(j · n_in / k + o) without a rounding error that could repeat an input."""
    rows = np.repeat(np.arange(fan_in.size, dtype=np.int64), fan_in)
    step = _position_in_row(fan_in)
    offset = n_in * np.modf(np.arange(fan_in.size) * _GOLDEN)[0]
    whole = np.floor(offset).astype(np.int64)
    # floor(j n / k + r) = (j n + floor(r k)) // k for 0 <= r < 1: exact, and r k stays below k.
    part = np.minimum(np.floor((offset - whole) * fan_in).astype(np.int64), np.maximum(fan_in - 1, 0))
    inputs = (step * n_in + part[rows]) // fan_in[rows] + whole[rows]
    return np.sort(rows * n_in + inputs % n_in) % n_in


def _random(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Inputs without replacement, neuron by neuron."""
    parts = [np.sort(rng.choice(n_in, size=k, replace=False, shuffle=False)) for k in fan_in.tolist()]
    return np.concatenate(parts).astype(np.int64)


def _sequential(fan_in: IntArray, n_in: int, rng: np.random.Generator) -> IntArray:
    """Inputs 0 … k - 1 of each neuron."""
    return _position_in_row(fan_in)


def _position_in_row(fan_in: IntArray) -> IntArray:
    """0 … k - 1 for each neuron, concatenated."""
    starts = np.cumsum(fan_in) - fan_in
    return np.arange(int(fan_in.sum()), dtype=np.int64) - np.repeat(starts, fan_in)


_SPREADINGS: dict[str, Callable[[IntArray, int, np.random.Generator], IntArray]] = {
    "even": _even,
    "random": _random,
    "sequential": _sequential,
}
