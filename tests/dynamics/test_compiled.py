"""Whether a kernel is used, by how many numbers there are and whether numba is there."""

import sys

import pytest

from psn_lightning.dynamics import compiled


@pytest.mark.parametrize(("loaded", "from_"), [(True, compiled._MANY), (False, compiled._VERY_MANY)])
def test_from_how_many_on(loaded, from_, monkeypatch):
    if loaded:
        monkeypatch.setitem(sys.modules, "numba", object())
    else:
        monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert not compiled.is_worth_compiling(from_)
    assert compiled.is_worth_compiling(from_ + 1)


def test_never_without_numba(monkeypatch):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(compiled, "find_spec", lambda _: None)
    assert not compiled.is_worth_compiling(2**40)
