"""Seconds and memory of pruning the paper's network before training: ``python -m benchmarks.pruning``.

Each saliency runs in a process of its own, on random rows in the shape of Fashion-MNIST, 784-1024-1024-10 to 99%, with
the numbers of batches and rounds that it has by default (CSTI: 60,000 rows). Medians of three.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

import psutil
import torch

from psn_lightning.bench.loops import make_network
from psn_lightning.pruning import CSTI, OBD, SNIP, GraSP, Magnitude, RandomScores, Saliency, Scope, SynFlow, prune

SALIENCIES: dict[str, Saliency] = {
    type(saliency).__name__: saliency
    for saliency in (RandomScores(), Magnitude(), SNIP(), GraSP(), SynFlow(), OBD(), CSTI())
}


def measure(name: str) -> None:
    """Print seconds, and the largest resident memory above that before, in MiB."""
    saliency, generator = SALIENCIES[name], torch.Generator().manual_seed(1)
    n = 469 if saliency.batches is None else saliency.batches
    batches = [
        (torch.randn(128, 784, generator=generator), torch.randint(10, (128,), generator=generator)) for _ in range(n)
    ]
    seconds = []
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        net = make_network("dense", [784, 1024, 1024, 10], 0.0)
        start = time.perf_counter()
        scope: Scope | None = "layer" if name == "Magnitude" else None  # over the network nothing would be left of one
        prune(net, saliency, 0.99, batches, scope, exclude=["6"])
        seconds.append(time.perf_counter() - start)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(name, statistics.median(seconds), (peak - before) / 2**20)


def main() -> None:
    """Print the table."""
    print("| saliency | batches | rounds | seconds | MiB |\n|---|---|---|---|---|")
    for name, saliency in SALIENCIES.items():
        command = [sys.executable, "-m", "benchmarks.pruning", name]
        _, seconds, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        batches = "all" if saliency.batches is None else saliency.batches
        print(f"| {name} | {batches} | {saliency.rounds} | {float(seconds):.2f} | {float(memory):.0f} |", flush=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
