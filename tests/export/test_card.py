"""A model card says of a network and its run what they are."""

import re

import pytest
import torch
import yaml

from psn_lightning import Lognormal, SparseMLP, Topology, sparsify
from psn_lightning.export.card import TrainedRun, write_card
from psn_lightning.topology.statistics import summarize


def header(card):
    return yaml.safe_load(card.split("---")[1])


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_the_table_is_that_of_the_masks(storage):
    model = SparseMLP([20, 30, 40, 3], Topology(Lognormal(0.8), sparsity=0.7), storage=storage)
    card = write_card(model, SparseMLP)
    for name, layer in model.sparse_layers().items():
        found = summarize(layer.connectivity)
        (line,) = re.findall(rf"\| `{name}` .*", card)
        assert f"{found.connections:,} | {found.sparsity:.4f}" in line
        assert line.endswith(f"| {found.fan_in_ccv:.3f} |")
    rest = sum(p.numel() for name, p in model.named_parameters() if not re.fullmatch(r"fc\d\.weight", name))
    active = sum(layer.n_connections for layer in model.sparse_layers().values())
    assert f"{active + rest:,} parameters" in card


def test_the_run_and_a_licence_that_is_left_to_the_author():
    run = TrainedRun("SET", "a|b", 7, 1234, {"test/accuracy": 0.5}, "seed_everything: 7\n", {"MLflow run": "r"})
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    sparsify(model, 0.5)
    card = write_card(model, SparseMLP, run)
    for row in (
        "| method | SET |",
        r"| data set | a\|b |",
        "| seed | 7 |",
        "| MLflow run | r |",
        "| `test/accuracy` | 0.5000 |",
    ):
        assert row in card
    assert "```yaml\nseed_everything: 7\n```" in card
    assert header(card)["library_name"] == "psn_lightning"
    assert "license" not in header(card)


def test_a_dense_network_without_a_run():
    card = write_card(torch.nn.Linear(3, 2), SparseMLP)
    assert "8 parameters; dense" in card
    assert "CCV" not in card
    assert "Training" not in card
