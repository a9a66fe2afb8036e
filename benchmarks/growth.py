"""Time of a training step and peak memory of a network of a given width.

``python -m benchmarks.growth 4096`` prints the number of connections, the seconds of each step, and the peak memory in
bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Topology, Uniform

PER_NEURON = 60  # mean fan-in, summed over both hidden layers


def main(width: int) -> None:
    """Train a network 784–width–width–10 for at least twelve steps, and print the results as JSON."""
    sparsity = 1 - PER_NEURON * width / (784 * width + width * width)
    network = SparseMLP([784, width, width, 10], Topology(Uniform(), sparsity, "er"), storage="csr", seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    x, y, seconds = torch.randn(128, 784), torch.randint(0, 10, (128,)), []
    for _ in range(max(12, 200 * 1024 // width)):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    connections = sum(len(layer.parameter) for layer in network.sparse_layers().values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"connections": connections, "seconds": seconds[2:], "bytes": memory}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
