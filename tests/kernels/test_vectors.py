"""Emitted vector operations against Python."""

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from psn_lightning.kernels.vectors import Emitter, count_lanes


@pytest.mark.parametrize(("itemsize", "lanes"), [(4, 16), (8, 8)])
def test_lanes_of_a_vector(itemsize, lanes):
    assert count_lanes(itemsize) == lanes


@intrinsic
def sum_rows_of_four(typingctx, tile, sums):
    """Sums of rows 0 to 3 by ``sum_lanes_of_each``, and of row 0 by ``sum_lanes``."""

    def codegen(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature.args[0].dtype, 1)
        source, target = (emit.get_pointer(signature.args[i], arguments[i]) for i in (0, 1))
        rows = [emit.load_row(emit.get_row(source, ir.IntType(64)(i)))[0] for i in range(4)]
        emit.add_lanes(target, ir.IntType(64)(0), emit.sum_lanes_of_each(rows), 4)
        emit.add_scalar(target, ir.IntType(64)(4), emit.sum_lanes(rows[0]))
        return context.get_dummy_value()

    return types.void(tile, sums), codegen


@njit
def call(tile, sums):
    sum_rows_of_four(tile, sums)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lanes_are_summed(dtype):
    tile = np.random.default_rng(0).random((4, count_lanes(np.dtype(dtype).itemsize))).astype(dtype)
    sums = np.ones(5, dtype)
    call(tile, sums)
    np.testing.assert_allclose(sums, 1 + np.append(tile.sum(axis=1), tile[0].sum()), rtol=1e-5)
