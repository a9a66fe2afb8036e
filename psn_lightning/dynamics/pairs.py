"""Random draws of pairs of a neuron and an input, in proportion to what is known of both.

Draws are neither sorted by comparison nor searched one by one: how often each input is drawn is multinomial, its
neurons come from an alias table, and counting sorts them. Positions are int64: a layer may have more than 2³¹ of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.dynamics.compiled import is_worth_compiling
from psn_lightning.dynamics.sampling import Integers, make_rng, sort_distinct
from psn_lightning.nn.activity import Activity

# Other numbers give other pairs.
_AT_ONCE = 2**20  # pairs drawn at once, more where few neurons have them: what is computed from them takes some 30 MB
_MOST_NEURONS = 2**16  # to draw from at once: 16 bits are sorted by counting
_PER_INPUT = 4  # pairs drawn at once for each input at least: a block draws one number for every input

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
    masses = by_neuron * np.repeat(by_input.sum(axis=1), size)
    if not masses.any():
        by_neuron, by_input, masses = np.ones_like(by_neuron), np.ones_like(by_input), np.ones_like(by_neuron)
    masses /= masses.max()
    edges, before = _cut(masses, size, n_in, count), taken.cpu().numpy()
    n_drawn = _split_draws(np.add.reduceat(masses, edges[:-1]), count, rng)
    drawn, end = np.empty(count, np.int64), 0
    for first, stop, number in zip(edges[:-1].tolist(), edges[1:].tolist(), n_drawn.tolist(), strict=True):
        inside = slice(*np.searchsorted(before, [first * n_in, stop * n_in]))
        own = by_neuron[first:stop], by_input[first // size], before[inside] - first * n_in
        new = _draw_block(*own, number, rng) + first * n_in
        begin, end = end, end + len(new)
        drawn[begin:end] = new
    return torch.from_numpy(drawn[:end]).to(taken.device)


def _cut(masses: Reals, size: int, n_in: int, count: int) -> Integers:
    """Cut neurons into blocks for which about :data:`_AT_ONCE` pairs are drawn, none of them across two groups.

    Args:
        masses: Weight of each neuron, summed over its inputs.
        size: Neurons of a group.
        n_in: Number of inputs.
        count: Number of draws.

    Returns:
        First neuron of each block, and the number of neurons.
    """
    expected = np.cumsum(masses) * (count / masses.sum())
    filled = np.flatnonzero(np.diff(expected // max(_AT_ONCE, _PER_INPUT * n_in))) + 1
    in_group = np.arange(0, size, _MOST_NEURONS)
    firsts = (np.arange(0, len(masses), size)[:, None] + in_group).ravel()
    return np.union1d(np.append(firsts, len(masses)), filled)


def _draw_block(by_neuron: Reals, by_input: Reals, taken: Integers, count: int, rng: np.random.Generator) -> Integers:
    """Draw pairs of some neurons, and return the distinct ones that are not taken, ascending.

    Args:
        by_neuron: Weight of each neuron, at most 2¹⁶ of them; positions count from the first.
        by_input: Weight of each input, shape ``(n_in,)``.
        taken: Positions that are left out, ascending.
        count: Number of draws.
        rng: Random generator.
    """
    if count == 0:
        return np.empty(0, np.int64)
    counts = _split_draws(by_input, count, rng)
    table = _make_alias_table(by_neuron)
    numbers = rng.random(count)
    if is_worth_compiling(count):
        from psn_lightning.kernels.pairs import draw_new_pairs

        return draw_new_pairs(counts, table, numbers, taken)
    neurons, inputs = _look_up(table, numbers), np.repeat(np.arange(len(counts)), counts)
    distinct = sort_distinct(neurons.astype(np.int64) * len(counts) + inputs)
    new: Integers = distinct[~np.isin(distinct, taken, assume_unique=True)]
    return new


def _split_draws(weights: Reals, count: int, rng: np.random.Generator) -> Integers:
    """Draw how often each index is drawn in ``count`` draws in proportion to the weights."""
    likely = np.flatnonzero(weights)  # what rounding leaves goes to the last index, which must not have weight 0
    counts = np.zeros(len(weights), np.int64)
    counts[likely] = rng.multinomial(count, weights[likely] / weights[likely].sum())
    return counts


def _look_up(table: AliasTable, numbers: Reals) -> NDArray[np.uint16]:
    """Turn uniform numbers in [0, 1) into indices: each is a place in a cell of the table, which has two."""
    share, owners = table
    places = numbers * len(share)
    cells = places.astype(np.uint16)
    return owners[cells, (places - cells < share[cells]).astype(np.int64)]


def _make_alias_table(weights: Reals) -> AliasTable:
    """Cut weights into as many cells of equal size, each of at most two indices (Walker, 1977).

    A light index, whose weight is below the mean, owns the first part of its cell; the rest of it comes from the
    heavy indices in their order. A heavy index that has given all that it had above the mean is completed by the next.
    Running sums of what they give and lack tell who gives to whom, without a loop.

    Args:
        weights: Weights, not negative, not all 0; at most 2¹⁶ of them.

    Returns:
        Share of its cell that each index owns, in [0, 1], shape ``(n,)``; indices of the rest and of that share, shape
        ``(n, 2)``.
    """
    weights = weights / weights.max()  # the sum of very small ones would have no inverse
    scaled = weights * (len(weights) / weights.sum())
    is_heavy = scaled > 1
    heavy, light = np.flatnonzero(is_heavy), np.flatnonzero(~is_heavy)
    share, owners = np.minimum(scaled, 1.0), np.repeat(np.arange(len(weights), dtype=np.uint16), 2).reshape(-1, 2)
    if len(heavy) == 0:
        return share, owners
    # One array of sums: rounded in two ways they would disagree about who gives to whom.
    surplus, lack = np.cumsum(scaled[heavy] - 1), np.append(0.0, np.cumsum(1 - scaled[light]))
    givers = np.searchsorted(surplus, lack[:-1], side="right")
    owners[light, 0] = heavy[np.minimum(givers, len(heavy) - 1)]
    given = lack[np.searchsorted(lack[:-1], surplus)]  # when the heavy index has no surplus left
    share[heavy], owners[heavy, 0] = np.clip(1 + surplus - given, 0.0, 1.0), np.append(heavy[1:], heavy[-1])
    return share, owners


def _to_weights(activity: Tensor) -> Reals:
    """Convert an activity to weights of at most 1, so that no product or sum of them overflows."""
    weights: Reals = activity.double().cpu().numpy()
    weights = np.where(np.isfinite(weights), weights, 0.0)
    largest = weights.max(initial=0.0)
    return weights / largest if largest > 0 else weights
