"""Connections of neurons that share their inputs in groups: pairs of a group and an input, and back.

A pair is identified by ``group * n_in + input``, as a connection is by ``neuron * n_in + input``.
"""

from __future__ import annotations

from torch import Tensor


def list_neurons(groups: Tensor) -> Tensor:
    """List the neurons of each group in ascending order, int64, shape ``(n_groups, size)``.

    Args:
        groups: Group of each neuron, in 0 … n_groups - 1, all of equal size, int64, shape ``(n_out,)``.
    """
    return groups.argsort(stable=True).view(int(groups.max()) + 1, -1)


def find_pairs(positions: Tensor, groups: Tensor, n_in: int) -> Tensor | None:
    """Find the pairs that connections consist of.

    Args:
        positions: Flat positions of the connections, int64, shape ``(n_connections,)``.
        groups: Group of each neuron, see :func:`list_neurons`.
        n_in: Number of inputs.

    Returns:
        Pairs, ascending, int64, shape ``(n_connections / size,)``; None if neurons of a group differ in their inputs.
    """
    size = list_neurons(groups).shape[1]
    if len(positions) % size:
        return None
    pairs = (groups[positions // n_in] * n_in + positions % n_in).sort().values.view(-1, size)
    return pairs[:, 0].contiguous() if bool((pairs == pairs[:, :1]).all()) else None


def shares_mask(mask: Tensor, groups: Tensor) -> bool:
    """Return whether all neurons of a group have the same inputs.

    Args:
        mask: Boolean mask, the neurons in its first dimension.
        groups: Group of each neuron, see :func:`list_neurons`, on the same device.
    """
    first = list_neurons(groups)[:, 0]
    return bool((mask == mask[first[groups]]).all())


def expand_pairs(pairs: Tensor, neurons: Tensor, n_in: int) -> Tensor:
    """Compute the connections of pairs.

    Args:
        pairs: Pairs, int64, shape ``(n,)``.
        neurons: Neurons of each group, shape ``(n_groups, size)``.
        n_in: Number of inputs.

    Returns:
        Flat positions, pair by pair, int64, shape ``(n, size)``.
    """
    return neurons[pairs // n_in] * n_in + (pairs % n_in)[:, None]
