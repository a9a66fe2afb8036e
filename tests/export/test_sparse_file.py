"""Sparse weights in a safetensors file."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from psn_lightning import densify, load_sparse, sparse_layers, sparsify
from psn_lightning.export.sparse_file import load_connections, save_sparse
from tests.conftest import ROOT


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.95), st.sampled_from(["csr", "masked"]))
def test_weights_come_back_bit_by_bit(tmp_path_factory, n_in, n_out, sparsity, storage):
    torch.manual_seed(n_in)
    model = nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out))
    sparsify(model, min(sparsity, 1 - 1 / n_in), storage=storage)
    path = tmp_path_factory.mktemp("sparse") / "m.safetensors"
    save_sparse(model, path)
    n = sparse_layers(model)["0"].n_connections
    for other in ("csr", "masked"):
        again = nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out))
        sparsify(again, 0.0, storage=other)
        again.load_state_dict(load_connections(path))
        ours, theirs = sparse_layers(model)["0"], sparse_layers(again)["0"]
        assert torch.equal(ours.active_positions(), theirs.active_positions())
        assert torch.equal(ours.active_values(), theirs.active_values())
    assert len(load_file(path)["0.weight.values"]) == n
    expected = densify(model).state_dict()
    found = load_sparse(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_shared_weights_and_convolutions(tmp_path):
    model = nn.ModuleDict({"a": nn.Conv2d(3, 4, 3), "b": nn.Linear(5, 6), "c": nn.Linear(5, 6)})
    model["c"].weight = model["b"].weight
    sparsify(model, 0.5)
    save_sparse(model, tmp_path / "m.safetensors")
    found = load_sparse(tmp_path / "m.safetensors")
    assert torch.equal(found["a.weight"], model["a"].weight)
    assert torch.equal(found["b.weight"], found["c.weight"])


def test_the_reader_of_the_documentation_reads_the_same(tmp_path):
    (code,) = re.findall(r"```python\n(import json.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    scope = {}
    exec(compile(code, "export.md", "exec"), scope)
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Linear(5, 6))
    sparsify(model, 0.6)
    save_sparse(model, tmp_path / "m.safetensors")
    theirs, ours = scope["read"](tmp_path / "m.safetensors"), load_sparse(tmp_path / "m.safetensors")
    assert theirs.keys() == ours.keys()
    assert all((theirs[key] == ours[key].numpy()).all() for key in ours)
    assert len(code.splitlines()) <= 20


def test_any_other_file_is_refused(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "m.safetensors")
    for load in (load_sparse, load_connections):
        with pytest.raises(ValueError, match="load_file"):
            load(tmp_path / "m.safetensors")


def test_connections_of_convolutions_are_refused(tmp_path):
    model = torch.nn.Conv2d(2, 4, 3)
    sparsify(model, 0.5)
    save_sparse(model, tmp_path / "conv.safetensors")
    with pytest.raises(ValueError, match="load_sparse"):
        load_connections(tmp_path / "conv.safetensors")
