"""Seconds and memory of one update by each rule: ``python -m benchmarks.rules``.

The paper's network, 784-1024-1024-10, in storage masked, at 90 and 99%; each rule in a process of its own, on random
rows. Medians of five updates after one that warms up (and compiles); MiB above the memory before them.
"""

from __future__ import annotations

import functools
import resource
import statistics
import subprocess
import sys
import time

import psutil
import torch

from psn_lightning.dynamics import (
    CHTRule,
    CHTsRule,
    GraNetRule,
    MESTRule,
    RigLRule,
    SETRule,
    SRigLRule,
    Update,
    update_network,
)
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology

RULES = {
    "RigL": RigLRule,
    "SET": SETRule,
    "SRigL": SRigLRule,
    "MEST": MESTRule,
    "GraNet": functools.partial(GraNetRule, 0.99),
    "CHT, CH3-L3p": functools.partial(CHTRule, "CH3-L3p", stop_overlap=1.0),
    "CHT, CH3-L3n": functools.partial(CHTRule, "CH3-L3n", stop_overlap=1.0),
    "CHT, CH2-L3n": functools.partial(CHTRule, "CH2-L3n", stop_overlap=1.0),
    "CHTs, CH3-L3p": CHTsRule,
}


def measure(name: str, sparsity: float) -> None:
    """Print seconds, and the largest resident memory above that before, in MiB."""
    network = SparseMLP([784, 1024, 1024, 10], Topology(Bernoulli(), sparsity))
    layers, rule, generator = network.sparse_layers(), RULES[name](), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters())
    for layer in layers.values():
        layer.record_dense_gradient = rule.needs_gradient
    network(torch.randn(128, 784)).square().mean().backward()
    before, seconds = psutil.Process().memory_info().rss, []
    for _ in range(6):
        start = time.perf_counter()
        update_network(layers, rule, Update(0.3, 0.0), optimizer, generator)
        seconds.append(time.perf_counter() - start)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(statistics.median(seconds[1:]), max(0, peak - before) / 2**20)


def main() -> None:
    """Print the table."""
    print("| rule | seconds at 90% | MiB | seconds at 99% | MiB |\n|---|---|---|---|---|")
    for name in RULES:
        cells = []
        for sparsity in ("0.9", "0.99"):
            command = [sys.executable, "-m", "benchmarks.rules", name, sparsity]
            seconds, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            cells += [f"{float(seconds):.3f}", f"{float(memory):.0f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    measure(sys.argv[1], float(sys.argv[2])) if len(sys.argv) > 2 else main()
