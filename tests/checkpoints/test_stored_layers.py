"""Sparse layers in a state dict: read and written without a module."""

import pytest
import torch
from torch import nn

from psn_lightning import sparse_layers, sparsify
from psn_lightning.checkpoints.stored_layers import read_layers, write_connections
from psn_lightning.errors import SettingError
from tests.helpers.models import MODELS


def make(name, storage="masked"):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)) if name == "linear" else MODELS[name][0]()
    sparsify(module, 0.6, storage=storage)
    return module


@pytest.mark.parametrize(
    ("name", "storage"), [("linear", "masked"), ("linear", "csr"), ("resnet", "masked"), ("transformer", "masked")]
)
def test_layers_are_those_of_the_module(name, storage):
    module = make(name, storage)
    stored, layers = read_layers(module.state_dict()), sparse_layers(module)
    assert set(stored) == set(layers)
    for key, layer in layers.items():
        assert stored[key].storage == storage
        assert stored[key].shape == (layer.n_out, layer.n_in)
        assert torch.equal(stored[key].positions, layer.active_positions())
        assert torch.equal(stored[key].values, layer.active_values())


@pytest.mark.parametrize(("name", "storage"), [("linear", "masked"), ("linear", "csr"), ("resnet", "masked")])
def test_what_is_written_is_loaded(name, storage):
    module, other = make(name, storage), make(name, storage)
    state_dict = {key: entry.clone() for key, entry in module.state_dict().items()}
    wanted = {}
    for key, layer in read_layers(state_dict).items():
        positions = layer.positions[::2]
        wanted[key] = positions, torch.randn(len(positions))
        write_connections(state_dict, layer, *wanted[key])
        assert f"{key}.blocks" not in state_dict  # they fit the number of connections before
    other.load_state_dict(state_dict)
    for key, layer in sparse_layers(other).items():
        assert torch.equal(layer.active_positions(), wanted[key][0])
        assert torch.equal(layer.active_values(), wanted[key][1])


def test_a_tied_weight_is_written_under_all_its_names():
    module = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5)})
    module["b"].weight = module["a"].weight
    sparsify(module, 0.5)
    state_dict = module.state_dict()
    (layer,) = read_layers(state_dict).values()
    write_connections(state_dict, layer, layer.positions[:3], torch.ones(3))
    assert torch.equal(state_dict["a.weight"], state_dict["b.weight"])
    assert int(state_dict["b.weight"].sum()) == 3


def test_a_mask_of_ones_own_and_a_dense_module_are_no_layers():
    assert not read_layers(nn.Linear(3, 2).state_dict())
    assert not read_layers(
        {"key_mask": torch.ones(3, dtype=torch.bool), "w": torch.ones(3, 3), "w_mask": torch.ones(2)}
    )


def test_values_of_absent_connections_are_refused():
    (layer,) = read_layers({"weight": torch.eye(3), "weight_mask": torch.eye(3, dtype=torch.bool)}).values()
    assert torch.equal(layer.values_at(torch.tensor([0, 8])), torch.ones(2))
    with pytest.raises(SettingError, match="Only pruning may change the connections"):
        layer.values_at(torch.tensor([1]))
