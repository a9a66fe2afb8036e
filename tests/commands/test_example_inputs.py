"""Inputs of a forward pass, from the model or the data."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from psn_lightning.commands.example_inputs import find_example_inputs
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError


class Model(pl.LightningModule):
    def __init__(self, example=None):
        super().__init__()
        self.example_input_array = example


class Data(pl.LightningDataModule):
    def __init__(self, loader):
        super().__init__()
        self.loader = loader
        self.calls = []

    def prepare_data(self):
        self.calls.append("prepare")

    def setup(self, stage):
        self.calls.append(stage)

    def train_dataloader(self):
        return self.loader


X = torch.arange(60.0).view(20, 3)


def test_the_models_own_example_wins():
    (found,) = find_example_inputs(Model(X[:2]), Data(None))
    assert torch.equal(found, X[:2])
    assert len(find_example_inputs(Model((X, X)), None)) == 2
    with pytest.raises(SettingError, match="example_input_array"):
        find_example_inputs(Model({"x": X}), None)


@pytest.mark.parametrize("is_ready", [False, True])
@pytest.mark.parametrize("wrap", [lambda loader: loader, lambda loader: [loader], lambda loader: {"a": loader}])
def test_the_first_rows_of_the_data(wrap, is_ready):
    data = Data(wrap(DataLoader(TensorDataset(X, X), 10)))
    (found,) = find_example_inputs(Model(), data, is_ready)
    assert torch.equal(found, X[:8])
    assert data.calls == ([] if is_ready else ["prepare", "fit"])


def test_a_batch_that_is_a_tensor_and_our_own_data():
    (found,) = find_example_inputs(Model(), Data(DataLoader(X, 4)))
    assert torch.equal(found, X[:4])
    assert find_example_inputs(Model(), Digits())[0].shape == (8, 64)


@pytest.mark.parametrize("data", [None, Data(DataLoader([{"x": 1.0}], 1))])
def test_without_any_the_remedy_is_said(data):
    with pytest.raises(SettingError, match="example_input_array"):
        find_example_inputs(Model(), data)
