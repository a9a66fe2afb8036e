"""How kernels are compiled and kept."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import carray, cfunc, int64, types
from psn_lightning.nn.kernels import pool

from psn_lightning.kernels.connections import order_by_input, places_in

positions = st.lists(st.integers(0, 60), unique=True).map(sorted)


@settings(deadline=None)  # the first call compiles
@given(positions, positions)
def test_places(before, after):
    places = places_in(np.array(before, np.int64), np.array(after, np.int64))
    assert places.tolist() == [before.index(x) if x in before else len(before) for x in after]


@settings(deadline=None)
@given(st.lists(st.integers(0, 20)))
def test_order_by_input(inputs):
    order = order_by_input(np.array(inputs, np.int32), 21)
    assert order.tolist() == sorted(range(len(inputs)), key=lambda k: inputs[k])


def test_a_changed_source_file_is_compiled_anew(monkeypatch):
    def names(checksum):
        def kernel(job):
            job[0] = 1

        monkeypatch.setattr(pool, "_sources", lambda: checksum)
        pool.compiled(kernel)
        return kernel.__qualname__

    assert names(1) != names(2)


def test_where_nothing_can_be_written_kernels_are_compiled_every_time(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])

    def kernel(job):
        carray(pool.at(job[3], int64), (1,))[0] += 1

    with pytest.raises(RuntimeError, match="cannot cache"):
        cfunc(types.void(pool.Job), cache=True)(kernel)
    number = np.array([41], np.int64)
    pool.run(pool.compiled(kernel), 1, number.ctypes.data)
    assert number == 42


def test_a_damaged_cache_is_not_read(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl.rebuild", lambda *_: (_ for _ in ()).throw(EOFError))
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.load", lambda *_: (_ for _ in ()).throw(EOFError))

    def kernel(job):
        carray(pool.at(job[3], int64), (1,))[0] += 1

    number = np.array([41], np.int64)
    pool.run(pool.compiled(kernel), 1, number.ctypes.data)
    assert number == 42


def test_numba_is_imported_only_where_it_is_needed():
    code = "import sys, psn_lightning.task, psn_lightning.callbacks; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fewer_threads_than_asked_for_do_all_the_work():
    code = """
import torch, numpy as np
torch.set_num_threads(4)
from psn_lightning.nn.csr import CSRLinear
from psn_lightning.topology import Connectivity
layer = CSRLinear(Connectivity.full(8, 5), torch.randn(40), torch.zeros(5))
x = torch.randn(300, 8)
dense = layer.weight.detach().view(5, 8)
torch.testing.assert_close(layer(x).detach(), x @ dense.T, atol=1e-4, rtol=1e-4)
"""
    environment = {**os.environ, "OMP_THREAD_LIMIT": "2"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
