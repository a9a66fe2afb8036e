"""Random draws among the absent positions of a layer, in time and memory that grow with the positions drawn and taken.

Positions are int64: a layer may have more than 2³¹ of them.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.nn.activity import Activity

_AT_ONCE = 2**22  # pairs drawn at once; another number gives other pairs
_MANY = 2**14  # numbers for which a compiled search is worth its start

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


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
    ranks = _draw_distinct(n_positions - len(taken), count, _make_rng(generator))
    before = taken.cpu().numpy()
    # The absent position of rank r has as many taken positions before it as there are with taken[i] - i <= r.
    places = np.searchsorted(before - np.arange(len(before)), ranks, side="right")
    return torch.from_numpy(ranks + places).to(taken.device)


def draw_pairs(activity: Activity, taken: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw pairs of a neuron and an input independently of each other, each in proportion to its activity.

    In a convolution with groups a pair is drawn in proportion to the product of the two activities too, among the
    inputs that the neuron has. Where all products are 0 or not finite, all pairs are equally likely.

    Args:
        activity: Activity of neurons and inputs.
        taken: Flat positions, ascending, int64; pairs that are among them are left out.
        count: Number of draws, with replacement.
        generator: Random generator on the CPU, in the same state on every process.

    Returns:
        Distinct flat positions, ascending, int64, on the device of ``taken``; fewer than ``count`` where pairs were
        taken or drawn twice.
    """
    rng, (by_neuron, by_input) = _make_rng(generator), (_to_weights(part) for part in activity)
    n_groups, n_in = by_input.shape
    size = len(by_neuron) // n_groups
    by_neuron = by_neuron * np.repeat(by_input.sum(axis=1), size)
    if not by_neuron.any():
        by_neuron, by_input = np.ones(len(by_neuron)), np.ones_like(by_input)
    drawn = np.empty(count, np.int64)
    for part in _split(drawn):
        neurons = _draw_ascending(by_neuron, len(part), rng)
        edges = np.searchsorted(neurons, np.arange(n_groups + 1) * size)
        for group, weights in enumerate(by_input):
            own = part[edges[group] : edges[group + 1]]
            own[:] = _draw_ascending(weights, len(own), rng)
            _shuffle(own, n_in, rng)
        neurons *= n_in
        part += neurons
    drawn.sort()
    return torch.from_numpy(_keep_new(drawn, taken.cpu().numpy())).to(taken.device)


def _make_rng(generator: torch.Generator) -> np.random.Generator:
    """Make a numpy generator, which has the faster draws, from the state of torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def _draw_distinct(n: int, count: int, rng: np.random.Generator) -> Integers:
    """Draw ``count`` of the numbers below ``n`` without replacement, ascending."""
    if 2 * count > n:
        return np.sort(rng.permutation(n)[:count])
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:  # the first distinct ones of a sequence of independent draws
        drawn = _sort_distinct(np.concatenate([drawn, rng.integers(n, size=count - len(drawn))]))
    return drawn


def _draw_ascending(weights: Reals, count: int, rng: np.random.Generator) -> Integers:
    """Draw ``count`` indices independently in proportion to their weights, and sort them.

    Sorted uniform numbers are running sums of exponential ones, so that nothing is sorted or searched one by one.
    """
    if count == 0:
        return np.empty(0, np.int64)
    uniform = rng.standard_exponential(count + 1).cumsum()
    bounds = np.cumsum(weights)
    ends = np.searchsorted(uniform[:-1], bounds / bounds[-1] * uniform[-1], side="right")
    return np.repeat(np.arange(len(weights)), np.diff(ends, prepend=0))


def _shuffle(numbers: Integers, limit: int, rng: np.random.Generator) -> None:
    """Shuffle numbers below a limit, in place.

    They are sorted by random bits in front of them, which takes half the time of exchanging them one by one.
    """
    width = (limit - 1).bit_length()
    numbers |= rng.integers(2 ** (62 - width), size=len(numbers)) << width
    numbers.sort()
    numbers &= 2**width - 1


def _keep_new(numbers: Integers, taken: Integers) -> Integers:
    """Move the distinct numbers that are not taken to the front, and return that part; both ascending."""
    n_kept, before = 0, -1
    for part in _split(numbers):
        is_new = np.empty(len(part), bool)
        is_new[0] = part[0] != before
        np.not_equal(part[1:], part[:-1], out=is_new[1:])
        if len(taken):
            is_new &= ~_are_in(taken, part)
        before, kept = part[-1], part[is_new]
        numbers[n_kept : n_kept + len(kept)] = kept
        n_kept += len(kept)
    return numbers[:n_kept]


def _are_in(taken: Integers, numbers: Integers) -> NDArray[np.bool_]:
    """Say of each number whether it is among the taken ones; both ascending."""
    if len(numbers) > _MANY and find_spec("numba") is not None:
        from psn_lightning.kernels.connections import locate_positions

        return np.less(locate_positions(taken, numbers), len(taken))
    places = np.searchsorted(taken, numbers)
    np.minimum(places, len(taken) - 1, out=places)
    return np.equal(taken[places], numbers)


def _split(numbers: Integers) -> list[Integers]:
    """Split an array into views of a few million numbers, so that what is computed from them stays small."""
    return [numbers[i : i + _AT_ONCE] for i in range(0, len(numbers), _AT_ONCE)]


def _sort_distinct(numbers: Integers) -> Integers:
    return _keep_new(np.sort(numbers), np.empty(0, np.int64))


def _to_weights(activity: Tensor) -> Reals:
    weights: Reals = activity.double().cpu().numpy()
    return np.where(np.isfinite(weights), weights, 0.0)
