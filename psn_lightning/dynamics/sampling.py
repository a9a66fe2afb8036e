"""Random draws among the absent positions of a layer, in time and memory that grow with the positions drawn and taken.

Positions are int64: a layer may have more than 2³¹ of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]


def draw_absent(taken: Tensor, n_positions: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw distinct positions uniformly at random among those that are not taken.

    Args:
        taken: Flat positions, ascending, int64.
        n_positions: Number of positions of the layer.
        count: Number of positions to draw, at most the number of absent ones.
        generator: Random generator on the CPU, in the same state on every process.

    Returns:
        Flat positions, ascending, int64, shape ``(count,)``, on the device of ``taken``.
    """
    ranks = _draw_distinct(n_positions - len(taken), count, make_rng(generator))
    before = taken.cpu().numpy()
    # The absent position of rank r has as many taken positions before it as there are with taken[i] - i <= r.
    places = np.searchsorted(before - np.arange(len(before)), ranks, side="right")
    return torch.from_numpy(ranks + places).to(taken.device)


def make_rng(generator: torch.Generator) -> np.random.Generator:
    """Make a numpy generator, which has the faster draws, from the state of torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def _draw_distinct(n: int, count: int, rng: np.random.Generator) -> Integers:
    """Draw ``count`` of the numbers below ``n`` without replacement, ascending."""
    if 2 * count > n:
        return np.sort(rng.permutation(n)[:count])
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:  # the first distinct ones of a sequence of independent draws
        drawn = sort_distinct(np.concatenate([drawn, rng.integers(n, size=count - len(drawn))]))
    return drawn


def sort_distinct(numbers: Integers) -> Integers:
    """Sort numbers that are not negative in place, and return the distinct ones."""
    numbers.sort()
    distinct: Integers = numbers[np.diff(numbers, prepend=-1) != 0]
    return distinct
