"""Groups of neurons that share their inputs: their numbers, their neurons, and whether inputs are shared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def number_groups(groups: IntArray, n_out: int) -> IntArray:
    """Number groups in the order in which their first neurons follow each other.

    Args:
        groups: Group of each neuron, any numbers, shape ``(n_out,)``.
        n_out: Number of neurons.

    Returns:
        Group of each neuron, in 0 … n_groups - 1, shape ``(n_out,)``.

    Raises:
        ValueError: If there is not one number for each neuron, or the groups differ in size.
    """
    if groups.shape != (n_out,):
        raise ValueError(f"groups of shape {groups.shape}, expected {(n_out,)}: one number for each neuron")
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if sizes.min() != sizes.max():
        raise ValueError(f"groups of {sizes.min()} to {sizes.max()} neurons: all groups must have the same size")
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def list_neurons(groups: IntArray) -> IntArray:
    """List the neurons of each group in ascending order, shape ``(n_groups, size)``.

    Args:
        groups: Group of each neuron, as :func:`number_groups` returns them.
    """
    return np.argsort(groups, kind="stable").reshape(int(groups.max()) + 1, -1)


def shares_inputs(indptr: IntArray, indices: IntArray, groups: IntArray) -> bool:
    """Return whether all neurons of a group have the same inputs.

    Args:
        indptr: Row pointers of the connections, shape ``(n_out + 1,)``.
        indices: Inputs of all neurons, ascending within a neuron, shape ``(n_connections,)``.
        groups: Group of each neuron, as :func:`number_groups` returns them.
    """
    fan_in, first = np.diff(indptr), list_neurons(groups)[:, 0][groups]
    if not np.array_equal(fan_in, fan_in[first]):
        return False
    ahead = np.repeat(indptr[:-1] - indptr[first], fan_in)  # how far behind the first neuron of the group it lies
    return np.array_equal(indices, indices[np.arange(indices.size) - ahead])
