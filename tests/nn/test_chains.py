"""Layers that feed each other, found in modules of several kinds."""

import pytest
import torch
from torch import nn

from psn_lightning.nn import SparseMLP, sparse_layers, sparsify
from psn_lightning.nn.chains import find_chains
from psn_lightning.topology import Topology


def chains_of(module, **arguments):
    torch.manual_seed(0)
    if arguments or not sparse_layers(module):
        sparsify(module, 0.5, **arguments)
    return find_chains(module, sparse_layers(module))


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_the_hidden_layers_of_our_network(storage):
    assert chains_of(SparseMLP([12, 8, 8, 6, 3], Topology(sparsity=0.5), storage=storage)) == [["fc1", "fc2", "fc3"]]


def test_activations_norms_and_pooling_do_not_break_a_chain_and_dense_layers_do():
    parts = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    model = nn.Sequential(*parts, nn.Linear(24, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    assert chains_of(model, exclude=["7"]) == [["0", "3", "6"], ["8", "9"]]


def test_blocks_have_chains_of_their_own():
    block = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model = nn.Sequential(nn.Linear(8, 8), block, nn.Linear(8, 8), nn.Linear(8, 8))
    assert chains_of(model) == [["2", "3"], ["1.0", "1.2"]]


def test_attention_and_modules_with_a_forward_of_their_own_have_none():
    assert chains_of(nn.TransformerEncoderLayer(8, 2, 16)) == []
    assert chains_of(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])) == []


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.fc(x)


def test_what_goes_past_a_layer_or_reads_some_channels_breaks_a_chain():
    assert chains_of(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), Skip(), nn.Linear(8, 8))) == [["0", "1"]]
    assert chains_of(nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), Skip()), nn.Linear(8, 8))) == []
    convolutions = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 12, (1, 3), groups=3), nn.Conv2d(12, 4, 1)
    assert chains_of(nn.Sequential(*convolutions)) == []


def test_storages_of_active_weights_are_chained_too():
    assert chains_of(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), storage="csr") == [["0", "2"]]
