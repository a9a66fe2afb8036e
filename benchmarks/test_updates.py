"""Time of a topology update, compared with a training step."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from benchmarks.conftest import Durations, in_turn
from psn_lightning.dynamics import RigLRule, update_layer
from psn_lightning.nn import SparseMLP, StorageName
from psn_lightning.topology import Bernoulli, Topology


def steps_of(storage: StorageName) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make two functions: a training step at 90%, and a RigL update in place of a step, followed by a step."""
    network = SparseMLP([784, 1024, 1024, 10], Topology(Bernoulli(), 0.9, "erk"), storage=storage, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    generator, layers = torch.Generator(), list(network.sparse_layers().values())
    x, y = torch.randn(4096, 784), torch.randint(0, 10, (4096,))

    def backward() -> None:
        rows = torch.randint(0, len(x), (128,))
        optimizer.zero_grad()
        F.cross_entropy(network(x[rows]), y[rows]).backward()

    def step() -> None:
        backward()
        optimizer.step()

    def update() -> None:
        for layer in layers:
            layer.record_dense_gradient = True
        backward()
        for layer in layers:
            update_layer(layer, RigLRule(), 0.3, optimizer, generator)
            layer.record_dense_gradient = False
        step()  # the first step after an update rebuilds all tables of the connections

    step()
    return step, update


@functools.cache
def measured() -> Durations:
    """Measure both storages in turn."""
    candidates = {}
    for storage in ("csr", "masked"):
        candidates[f"{storage} step"], candidates[f"{storage} update and step"] = steps_of(storage)
    return in_turn(candidates, seconds=4.0)


@pytest.mark.parametrize("kind", ["csr step", "csr update and step", "masked step", "masked update and step"])
def test_update(report, kind: str) -> None:
    report(measured()[kind], part="update", kind=kind)
