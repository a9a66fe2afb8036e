"""Training steps with csr and masked, by size of the network and sparsity; see ``CSR_WINS_FROM``."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from benchmarks.conftest import Durations, in_turn
from psn_lightning.nn import SparseMLP, StorageName
from psn_lightning.topology import Bernoulli, Topology

NETWORKS = [
    ((64, 128, 128, 10), 128),
    ((784, 256, 256, 10), 64),
    ((784, 1024, 1024, 10), 128),
    ((54, 1024, 1024, 1024, 7), 256),
    ((784, 2048, 2048, 10), 128),
]
KINDS = [("masked", 0.7), *(("csr", sparsity) for sparsity in (0.4, 0.5, 0.6, 0.7, 0.8))]


def step_of(sizes: tuple[int, ...], batch: int, storage: StorageName, sparsity: float) -> Callable[[], None]:
    """Make the function that runs a training step."""
    network = SparseMLP(sizes, Topology(Bernoulli(), sparsity), storage=storage, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    x, y = torch.randn(batch, sizes[0]), torch.randint(0, sizes[-1], (batch,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


@functools.cache
def measured(sizes: tuple[int, ...], batch: int) -> Durations:
    """Measure all kinds in turn; masked at one sparsity, because its time does not depend on it."""
    return in_turn({f"{kind} {s:g}": step_of(sizes, batch, kind, s) for kind, s in KINDS}, seconds=1.0)


@pytest.mark.parametrize(("kind", "sparsity"), KINDS)
@pytest.mark.parametrize(("sizes", "batch"), NETWORKS)
def test_step(report, sizes: tuple[int, ...], batch: int, kind: str, sparsity: float) -> None:
    name = "–".join(map(str, sizes))
    report(measured(sizes, batch)[f"{kind} {sparsity:g}"], part="storage", name=name, kind=kind, sparsity=sparsity)
