"""Random draws of pairs of a neuron and an input, in proportion to what is known of both.

Nothing is compared with anything: numbers of draws come from multinomial distributions, neurons from alias tables, and
pairs are sorted by counting. Positions are int64: a layer may have more than 2³¹ of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.dynamics.sampling import Integers, make_rng
from psn_lightning.nn.activity import Activity

_AT_ONCE = 2**20  # pairs drawn at once: their arrays stay in the cache; another number gives other pairs
_MOST_NEURONS = 2**16  # to draw from at once: 16 bits are sorted by counting
_MANY = 2**12  # pairs for which compiled draws are worth their start

Reals = NDArray[np.float64]
AliasTable = tuple[Reals, NDArray[np.uint16]]


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
    rng, by_neuron, by_input = make_rng(generator), _to_weights(activity.by_neuron), _to_weights(activity.by_input)
    n_groups, n_in = by_input.shape
    size = len(by_neuron) // n_groups
    if not (by_neuron.reshape(n_groups, size).sum(axis=1) * by_input.sum(axis=1)).any():
        by_neuron, by_input = np.ones_like(by_neuron), np.ones_like(by_input)
    blocks, before = list(_cut(len(by_neuron), size, n_in, count)), taken.cpu().numpy()
    masses = np.array([by_neuron[own].sum() * by_input[own.start // size].sum() for own in blocks])
    drawn, end = np.empty(count, np.int64), 0
    for own, n_drawn in zip(blocks, _split_draws(masses, count, rng).tolist(), strict=True):
        inside = slice(*np.searchsorted(before, [own.start * n_in, own.stop * n_in]))
        block = _Block(by_neuron[own], by_input[own.start // size], before[inside] - own.start * n_in)
        new = block.draw(n_drawn, rng) + own.start * n_in
        begin, end = end, end + len(new)
        drawn[begin:end] = new
    return torch.from_numpy(drawn[:end]).to(taken.device)


def _cut(n_out: int, size: int, n_in: int, count: int) -> Iterator[slice]:
    """Cut neurons into blocks for which about :data:`_AT_ONCE` pairs are drawn, none of them across two groups.

    Args:
        n_out: Number of neurons.
        size: Neurons of a group.
        n_in: Number of inputs; the numbers of draws of all of them are drawn for each block.
        count: Number of draws.
    """
    step = min(max(_AT_ONCE, 4 * n_in) * n_out // max(count, 1) + 1, _MOST_NEURONS)
    for group in range(0, n_out, size):
        for first in range(group, group + size, step):
            yield slice(first, min(first + step, group + size))


@dataclass(frozen=True)
class _Block:
    """Neurons that pairs are drawn for at once; positions count from the first of them.

    Args:
        by_neuron: Weight of each neuron, shape ``(n,)``, with ``n`` at most 2¹⁶.
        by_input: Weight of each input, shape ``(n_in,)``.
        taken: Positions that are left out, ascending.
    """

    by_neuron: Reals
    by_input: Reals
    taken: Integers

    def draw(self, count: int, rng: np.random.Generator) -> Integers:
        """Draw pairs, and return the distinct ones that are not taken, ascending."""
        if count == 0:
            return np.empty(0, np.int64)
        counts = _split_draws(self.by_input, count, rng)
        table = _make_alias_table(self.by_neuron)
        numbers = rng.random(count)
        if count > _MANY and find_spec("numba") is not None:
            from psn_lightning.kernels.pairs import draw_new_pairs

            return draw_new_pairs(counts, table, numbers, self.taken)
        neurons, inputs = _look_up(table, numbers), np.repeat(np.arange(len(counts)), counts)
        order = neurons.argsort(kind="stable")  # inputs of a neuron stay ascending
        return _keep_new(neurons[order].astype(np.int64) * len(counts) + inputs[order], self.taken)


def _split_draws(weights: Reals, count: int, rng: np.random.Generator) -> Integers:
    """Draw how often each index is drawn in ``count`` draws in proportion to the weights."""
    likely = np.flatnonzero(weights)  # a rounding error at the last index may not make it one of them
    counts = np.zeros(len(weights), np.int64)
    counts[likely] = rng.multinomial(count, weights[likely] / weights[likely].sum())
    return counts


def _look_up(table: AliasTable, numbers: Reals) -> NDArray[np.uint16]:
    """Turn uniform numbers in [0, 1) into indices: each is a place in a cell of the table, which has two."""
    share, owners = table
    places = numbers * len(share)
    cells = places.astype(np.uint16)
    return owners[cells, (places - cells < share[cells]).astype(np.int64)]


def _keep_new(drawn: Integers, taken: Integers) -> Integers:
    """Return the distinct positions that are not taken; both ascending."""
    distinct: Integers = drawn[np.diff(drawn, prepend=-1) != 0]
    if len(taken) == 0:
        return distinct
    places = np.minimum(np.searchsorted(taken, distinct), len(taken) - 1)
    new: Integers = distinct[taken[places] != distinct]
    return new


def _make_alias_table(weights: Reals) -> AliasTable:
    """Cut weights into as many cells of equal size, each of at most two indices (Walker, 1977).

    A light index, whose weight is below the mean, owns the first part of its cell; the rest of it comes from the
    heavy indices in their order. A heavy index that has given all that it had above the mean is completed by the next.
    What each gives and lacks are running sums, so that there is no loop.

    Args:
        weights: Weights, not negative, not all 0, at most 2¹⁶.

    Returns:
        Share of its cell that each index owns, in [0, 1], shape ``(n,)``; indices of the rest and of that share, shape
        ``(n, 2)``.
    """
    scaled = weights * (len(weights) / weights.sum())
    is_heavy = scaled > 1
    heavy, light = np.flatnonzero(is_heavy), np.flatnonzero(~is_heavy)
    share, owners = np.minimum(scaled, 1.0), np.repeat(np.arange(len(weights), dtype=np.uint16), 2).reshape(-1, 2)
    if len(heavy) == 0:
        return share, owners
    surplus, lack = np.cumsum(scaled[heavy] - 1), np.cumsum(1 - scaled[light])
    lack_before = lack - (1 - scaled[light])
    givers = np.searchsorted(surplus, lack_before, side="right")
    owners[light, 0] = heavy[np.minimum(givers, len(heavy) - 1)]
    given = np.append(0.0, lack)[np.searchsorted(lack_before, surplus)]  # when the heavy index has no surplus left
    share[heavy], owners[heavy, 0] = np.clip(1 + surplus - given, 0.0, 1.0), np.append(heavy[1:], heavy[-1])
    return share, owners


def _to_weights(activity: Tensor) -> Reals:
    weights: Reals = activity.double().cpu().numpy()
    return np.where(np.isfinite(weights), weights, 0.0)
