"""Time and memory of a training step over the number of connections, each width in a process of its own.

``python -m psn_lightning.bench.scale 4096`` prints one measurement as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from psn_lightning.bench.timing import Row, summarise
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Topology, Uniform

_PER_NEURON = 60  # mean fan-in, summed over both hidden layers
_BATCH = 128


def train(width: int) -> dict[str, Any]:
    """Train a network 784–width–width–10 for at least twelve steps.

    Args:
        width: Neurons of each hidden layer.

    Returns:
        Connections, seconds of each step but the first two, and the peak memory of the process in bytes.
    """
    sparsity = 1 - _PER_NEURON * width / (784 * width + width * width)
    network = SparseMLP([784, width, width, 10], Topology(Uniform(), sparsity, "er"), storage="csr", seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    x, y, seconds = torch.randn(_BATCH, 784), torch.randint(0, 10, (_BATCH,)), []
    for _ in range(max(12, 200 * 1024 // width)):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(x), y))
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    connections = sum(layer.n_connections for layer in network.sparse_layers().values())
    return {"connections": connections, "seconds": seconds[2:], "bytes": _read_peak_memory()}


def _read_peak_memory() -> int:
    """Read the peak memory of this process in bytes; the resource module would count that of the parent as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure_scale(widths: tuple[int, ...]) -> Iterator[Row]:
    """Measure networks of several widths with the same fan-in.

    Yields:
        Rows with ``width``, ``connections`` and ``bytes``, the peak memory of the process.
    """
    for width in widths:
        command = [sys.executable, "-m", __name__, str(width)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        yield summarise(found.pop("seconds"), part="scale", kind="csr", width=width, **found)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(train(int(sys.argv[1]))))
