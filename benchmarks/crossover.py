"""Speed of csr relative to masked for a single Linear, by width and sparsity: the basis of ``storage: auto``.

``python -m benchmarks.crossover`` prints Markdown tables of masked / csr, time of a forward and backward pass.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from psn_lightning import sparsify

WIDTHS = (64, 128, 256, 512, 1024, 2048)
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
BATCHES = (128, 2048)


def layer(width: int, sparsity: float, storage: str) -> nn.Module:
    """Make a sparse Linear."""
    module = nn.Sequential(nn.Linear(width, width))
    sparsify(module, sparsity, storage=storage)
    return module


def step(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Make the function that runs a forward and a backward pass, with the gradient to the input."""

    def run() -> None:
        for parameter in (*module.parameters(), x):
            parameter.grad = None
        module(x).sum().backward()

    return run


def ratio(width: int, sparsity: float, batch: int, seconds: float = 0.4) -> float:
    """Measure the median time of masked divided by that of csr, in turn.

    Args:
        width: Number of inputs and of neurons.
        sparsity: Fraction of absent connections.
        batch: Number of rows.
        seconds: Duration of the measurement.
    """
    x = torch.randn(batch, width, requires_grad=True)
    runs = [step(layer(width, sparsity, storage), x) for storage in ("masked", "csr")]
    times: list[list[float]] = [[], []]
    for run in runs:
        run(), run(), run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for run, own in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            own.append(time.perf_counter() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def main() -> None:
    """Print the tables."""
    for batch in BATCHES:
        print(f"\nbatch {batch}, {torch.get_num_threads()} threads: masked / csr\n")
        print("| width | " + " | ".join(f"{s:.0%}" for s in SPARSITIES) + " |")
        print("|---" * (len(SPARSITIES) + 1) + "|")
        for width in WIDTHS:
            print(f"| {width} | " + " | ".join(f"{ratio(width, s, batch):.1f}" for s in SPARSITIES) + " |", flush=True)


if __name__ == "__main__":
    main()
