"""Triton's interpreter, which runs kernels on the CPU."""

import contextlib
import importlib
import sys

import pytest

_NAME = "psn_lightning.kernels.triton_groups"


@contextlib.contextmanager
def interpreted():
    """The module of kernels under the interpreter, which is chosen where a kernel is decorated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.delitem(sys.modules, _NAME, raising=False)
        patch.setitem(sys.modules, _NAME, importlib.import_module(_NAME))
        yield sys.modules[_NAME]
