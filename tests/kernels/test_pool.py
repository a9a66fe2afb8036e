"""How kernels are compiled, cached and run."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import carray, cfunc, int64, types

from psn_lightning.kernels import pool


def test_a_changed_source_file_is_compiled_anew(monkeypatch):
    def names(checksum):
        def kernel(job):
            job[0] = 1

        monkeypatch.setattr(pool, "_hash_sources", lambda: checksum)
        pool.compile_kernel(kernel)
        return kernel.__qualname__

    assert names(1) != names(2)


def test_where_nothing_can_be_written_kernels_are_compiled_every_time(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])

    def kernel(job):
        carray(pool.cast(job[3], int64), (1,))[0] += 1

    with pytest.raises(RuntimeError, match="cannot cache"):
        cfunc(types.void(pool.Job), cache=True)(kernel)
    number = np.array([41], np.int64)
    pool.run_kernel(pool.compile_kernel(kernel), 1, number.ctypes.data)
    assert number == 42


def test_a_damaged_cache_is_not_read(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl.rebuild", lambda *_: (_ for _ in ()).throw(EOFError))
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.load", lambda *_: (_ for _ in ()).throw(EOFError))

    def kernel(job):
        carray(pool.cast(job[3], int64), (1,))[0] += 1

    number = np.array([41], np.int64)
    pool.run_kernel(pool.compile_kernel(kernel), 1, number.ctypes.data)
    assert number == 42


@pytest.mark.services
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
