"""Seconds and memory of everything that a run does, by width: ``python -m benchmarks.scale [WIDTH …]``.

Networks of two hidden layers with 784 inputs, and 95 connections per neuron as in ``conf/scale/million.yaml``: 32 in
the first layer, 64 in the second; batch 128, Adam, GSE; each width in a process of its own. Medians of five steps and
three updates, one measurement of everything else; to be run with nothing beside it.
"""

from __future__ import annotations

import io
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from psn_lightning.dynamics import GSERule, Update, update_network
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Connectivity, Topology, Uniform
from psn_lightning.topology.statistics import gradient_ratio, overlap, summarize

WIDTHS = [2**10, 2**12, 2**14, 2**16]
STAGES = ("topology", "network", "step", "update", "step after it", "statistics", "state", "peak GiB")
T = TypeVar("T")


def measure(width: int) -> list[float]:
    """Measure the stages of a network of one width."""
    taken: list[float] = []

    def clock(stage: Callable[[], T], prepare: Callable[[], object] = lambda: None, times: int = 1) -> T:
        durations = []
        for _ in range(times):
            prepare()
            start = time.perf_counter()
            result = stage()
            durations.append(time.perf_counter() - start)
        taken.append(statistics.median(durations))
        return result

    sizes, positions = [784, width, width, 10], width * (784 + width)
    topology = Topology(Uniform(), 1 - 95.4 * width / positions, "erk" if width >= 2**14 else "uniform")
    clock(lambda: topology.wire(sizes, "random", 42))
    network = clock(lambda: SparseMLP(sizes, topology, storage="csr"))
    layers, optimizer = network.sparse_layers(), torch.optim.Adam(network.parameters(), fused=True)
    x, target, generator = torch.rand(128, 784), torch.randint(10, (128,)), torch.Generator().manual_seed(0)

    def backward() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(network(x), target))

    def step() -> None:
        backward()
        optimizer.step()

    def prepare_update() -> None:
        for layer in layers.values():
            layer.record_dense_gradient = False
        step()  # what the update before has grown is not 0 any more
        for layer in layers.values():
            layer.record_dense_gradient = True
        backward()

    def update() -> None:
        update_network(layers, GSERule(), Update(0.2), optimizer, generator)

    step()
    clock(step, times=5)
    prepare_update()
    update()  # loads what only updates need
    before = network.connectivities()
    clock(update, prepare_update, times=3)
    for layer in layers.values():
        layer.mask_gradient()
        layer.record_dense_gradient = False
    clock(step)
    clock(lambda: _describe(before, network))
    clock(lambda: torch.save([network.state_dict(), optimizer.state_dict()], io.BytesIO()))
    return [*taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]


def _describe(before: dict[str, Connectivity], network: SparseMLP) -> None:
    for name, layer in network.sparse_layers().items():
        connectivity = layer.connectivity
        summarize(connectivity)
        overlap(before[name], connectivity)
        gradient_ratio(layer.gradient_magnitude().numpy(), connectivity)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        width = int(sys.argv[2])
        print(*(f"{value:.4f}" for value in measure(width)))
        sys.exit()
    print(f"| width | {' | '.join(STAGES)} |\n|{'---|' * (len(STAGES) + 1)}")
    for width in map(int, sys.argv[1:] or WIDTHS):
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(width)]
        row = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(f"| {width} | {' | '.join(row)} |", flush=True)
