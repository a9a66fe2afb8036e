"""Kernels are compiled once for each number type and tile width."""

import numpy as np
import pytest

from psn_lightning.kernels.network import LAYER, compile_backward, compile_forward


@pytest.mark.parametrize("compile_kernel", [compile_forward, compile_backward])
def test_one_kernel_for_each_number_type_and_width(compile_kernel):
    addresses = {(itemsize, width): compile_kernel(itemsize, width) for itemsize in (4, 8) for width in (32, 64)}
    assert len(set(addresses.values())) == 4
    assert all(compile_kernel(*arguments) == address for arguments, address in addresses.items())


def test_a_layer_is_a_record_of_integers():
    assert {LAYER[name] for name in LAYER.names} == {np.dtype(np.int64)}
