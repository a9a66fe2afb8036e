"""Sums over paths of length 3, against loops over the nodes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.kernels.paths import PathSums


@given(st.integers(1, 7), st.integers(1, 8), st.floats(0, 1), st.integers(0, 999))
def test_sums_are_those_of_loops(n_out, n_in, density, seed):
    rng = np.random.default_rng(seed)
    links, first = rng.random((n_out, n_in)) < density, n_out // 3
    of_neurons, of_inputs = rng.random((n_out - first, n_out)), rng.random((n_in, n_in))
    expected = np.zeros((n_out - first, n_in))
    for u in range(first, n_out):
        for z1 in np.flatnonzero(links[u]):
            for z2 in np.flatnonzero(links[:, z1]):
                for v in np.flatnonzero(links[z2]):
                    expected[u - first, v] += of_neurons[u - first, z2] * of_inputs[z1, v]
    sums = PathSums(links, of_inputs).compute(first, of_neurons)
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
