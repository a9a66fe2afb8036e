"""Exported files compute what the network computes, or are not kept."""

import copy

import pytest
import torch
from torch import nn

from psn_lightning import sparsify
from psn_lightning.errors import SettingError
from psn_lightning.export import FORMATS, export_model
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology


class Mixed(nn.Module):
    """Convolution, batch norm, attention, a dense head; two outputs."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc, self.head = nn.Linear(8, 64), nn.Linear(64, 3)

    def forward(self, x):
        y = self.norm(self.conv(x)).mT
        y = y + self.attention(y, y, y, need_weights=False)[0]
        hidden = self.fc(y.mean(1)).relu()
        return self.head(hidden), hidden


def mlp(storage):
    return SparseMLP([16, 32, 24, 3], Topology(Bernoulli(), sparsity=0.8), storage=storage), torch.randn(6, 16)


def mixed(storage):
    model = Mixed()
    sparsify(model, 0.7, include=["fc"], storage=storage) if storage == "csr" else sparsify(model, 0.7)
    model(torch.randn(32, 4, 10))  # statistics of the batch norm
    return model, torch.randn(5, 4, 10)


@pytest.mark.parametrize("name", ["pt2", "safetensors", "dense"])
@pytest.mark.parametrize(("make", "storage"), [(mlp, "csr"), (mlp, "masked"), (mixed, "masked"), (mixed, "csr")])
def test_the_file_computes_what_the_network_computes(name, make, storage, tmp_path):
    model, x = make(storage)
    before = copy.deepcopy(model.state_dict())
    exported = export_model(model, tmp_path / "m", name, x)
    assert exported.difference < 1e-5
    assert exported.any_rows
    assert exported.size == (tmp_path / "m").stat().st_size
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("make", "storage"), [(mlp, "csr"), (mixed, "masked")])
def test_onnx(make, storage, tmp_path):
    model, x = make(storage)
    exported = export_model(model, tmp_path / "m.onnx", "onnx", x)
    assert exported.difference < 1e-5
    assert exported.any_rows


def test_a_program_runs_without_the_class(tmp_path):
    model, x = mlp("csr")
    export_model(model, tmp_path / "m.pt2", "pt2", x)
    program = torch.export.load(tmp_path / "m.pt2")
    assert "psn_lightning" not in program.graph_module.code
    assert program.module()(x[:2]).shape == (2, 3)


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    class Doubled(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return 2 * self.network(x)

    model, x = mlp("masked")
    kept = tmp_path / "m.pt"
    kept.write_text("earlier")
    read = FORMATS["dense"].read
    wrong = type(FORMATS["dense"])(".pt", (), FORMATS["dense"].write, lambda folded, path: Doubled(read(folded, path)))
    monkeypatch.setitem(FORMATS, "dense", wrong)
    with pytest.raises(SettingError, match="computes something else"):
        export_model(model, kept, "dense", x)
    assert kept.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [kept]


def test_a_forward_pass_that_depends_on_values(tmp_path):
    class Branching(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x[:, :2]

    with pytest.raises(SettingError, match="Branching"):
        export_model(Branching(4, 2), tmp_path / "m.pt2", "pt2", torch.ones(3, 4))
    assert not list(tmp_path.iterdir())


def test_a_fixed_number_of_rows_is_said(tmp_path):
    class Fixed(nn.Linear):
        def forward(self, x):
            return super().forward(x.view(3, 4))

    assert not export_model(Fixed(4, 2), tmp_path / "m.pt2", "pt2", torch.ones(3, 4)).any_rows


def test_an_example_of_a_single_row(tmp_path):
    model, x = mlp("csr")
    assert export_model(model, tmp_path / "m.pt2", "pt2", x[:1]).any_rows


def test_an_unknown_format_and_a_missing_package(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="safetensors"):
        export_model(nn.Linear(2, 2), tmp_path / "m", "pt3", torch.ones(2, 2))
    monkeypatch.setattr("psn_lightning.export.model.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"psn_lightning\[export\]"):
        export_model(nn.Linear(2, 2), tmp_path / "m", "onnx", torch.ones(2, 2))
    assert set(FORMATS) == {"pt2", "onnx", "safetensors", "dense"}


def test_a_program_has_the_example_and_not_the_batch_that_it_is_a_view_of(tmp_path):
    model, x = mlp("csr")
    alone = export_model(model, tmp_path / "m.pt2", "pt2", x)
    of_many = export_model(model, tmp_path / "m.pt2", "pt2", torch.randn(9999, 16)[: len(x)])
    assert abs(of_many.size - alone.size) < 1000


@pytest.mark.parametrize("inputs", [[], torch.ones(0, 2)])
def test_empty_inputs(inputs, tmp_path):
    with pytest.raises(SettingError, match="empty"):
        export_model(nn.Linear(2, 2), tmp_path / "m", "dense", inputs)


@pytest.mark.parametrize("name", ["export", "InferenceSession"])
def test_what_onnx_cannot_express(name, tmp_path, monkeypatch):
    module = pytest.importorskip("onnxruntime") if name == "InferenceSession" else torch.onnx

    def fail(*_, **__):
        raise RuntimeError("no operator\nfor this")

    monkeypatch.setattr(module, name, fail)
    with pytest.raises(SettingError, match="no operator for this"):
        export_model(nn.Linear(2, 2), tmp_path / "m.onnx", "onnx", torch.ones(2, 2))
    assert not list(tmp_path.iterdir())


def test_a_program_is_not_exported_again(tmp_path):
    program = torch.export.export(nn.Linear(3, 2).eval(), (torch.randn(4, 3),)).module()
    with pytest.raises(SettingError, match=r"torch\.export"):
        export_model(program, tmp_path / "x.pt2", "pt2", torch.randn(4, 3))
    assert list(tmp_path.iterdir()) == []
