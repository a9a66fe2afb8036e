"""Kernels are compiled once for each number type, tile width and index type."""

import numpy as np
import pytest

from psn_lightning.kernels.network import LAYER, compile_backward, compile_forward


@pytest.mark.parametrize("compile_kernel", [compile_forward, compile_backward])
def test_one_kernel_for_each_number_type_width_and_index_type(compile_kernel):
    kinds = [(4, 32, 2), (8, 32, 2), (4, 64, 2), (4, 64, 4)]
    addresses = {kind: compile_kernel(*kind) for kind in kinds}
    assert len(set(addresses.values())) == len(kinds)
    assert all(compile_kernel(*arguments) == address for arguments, address in addresses.items())


def test_a_layer_is_a_record_of_integers():
    assert {LAYER[name] for name in LAYER.names} == {np.dtype(np.int64)}
