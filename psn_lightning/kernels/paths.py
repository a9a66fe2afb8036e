"""Compiled sum over the paths of length 3 of a bipartite graph, in time linear in their number."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba import carray, float64, int64
from numpy.typing import NDArray

from psn_lightning.kernels.pool import cast, compile_kernel, get_own_share, run_kernel


class PathSums:
    """Sums of the weights of all paths u – z₁ – z₂ – v between neurons u and inputs v of a layer.

    Args:
        links: Links of the graph, 0 or 1, shape ``(n_out, n_in)``.
        of_inputs: Factor of input z₁ for input v at [z₁, v], float64, shape ``(n_in, n_in)``.
    """

    def __init__(self, links: NDArray[Any], of_inputs: NDArray[np.float64]) -> None:
        self._n_out, self._n_in = links.shape
        self._starts, self._inputs = _list_links(links)
        self._feed_starts, self._feeds = _list_links(links.T)
        self._of_inputs = np.ascontiguousarray(of_inputs)

    def compute(self, first: int, of_neurons: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the sums of a block of neurons.

        Args:
            first: First neuron of the block.
            of_neurons: Factor of neuron z₂ for neuron u at [u, z₂], float64, shape ``(neurons, n_out)``.

        Returns:
            Sums over paths of the product of both factors, shape ``(neurons, n_in)``.
        """
        of_neurons = np.ascontiguousarray(of_neurons)
        sums = np.zeros((len(of_neurons), self._n_in))
        lists = (self._starts, self._inputs, self._feed_starts, self._feeds)
        arrays = (*lists, of_neurons, self._of_inputs, sums)
        sizes = (self._n_out, self._n_in, len(self._inputs), first, len(of_neurons))
        run_kernel(_compile_sum(), torch.get_num_threads(), *sizes, *(array.ctypes.data for array in arrays))
        return sums


def _list_links(links: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the columns of the links row by row: where each row starts, and the columns."""
    rows, columns = np.nonzero(links)
    counts = np.bincount(rows, minlength=len(links))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), columns.astype(np.int64)


@functools.cache
def _compile_sum() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_out, n_in, n_links, first, n_rows = job[3], job[4], job[5], job[6], job[7]
        starts, inputs = carray(cast(job[8], int64), (n_out + 1,)), carray(cast(job[9], int64), (n_links,))
        feed_starts, feeds = carray(cast(job[10], int64), (n_in + 1,)), carray(cast(job[11], int64), (n_links,))
        of_neurons = carray(cast(job[12], float64), (n_rows, n_out))
        of_inputs = carray(cast(job[13], float64), (n_in, n_in))
        sums = carray(cast(job[14], float64), (n_rows, n_in))
        begin, end = get_own_share(job, n_rows)
        for row in range(begin, end):
            u = first + row
            for i in range(starts[u], starts[u + 1]):
                z1 = inputs[i]
                for j in range(feed_starts[z1], feed_starts[z1 + 1]):
                    z2 = feeds[j]
                    factor = of_neurons[row, z2]
                    for k in range(starts[z2], starts[z2 + 1]):
                        v = inputs[k]
                        sums[row, v] += factor * of_inputs[z1, v]

    return compile_kernel(kernel)
