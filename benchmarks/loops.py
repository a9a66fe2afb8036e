"""Bare PyTorch loops, the baseline of ``psn-train fit``: fused Adam, and batches indexed from tensors in memory.

``python -m benchmarks.loops dense FashionMNIST`` prints the seconds of each epoch, which is training and one pass over
the test set.
"""

from __future__ import annotations

import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psn_lightning import data

HIDDEN = {"FashionMNIST": [1024, 1024], "ForestCover": [1024, 1024, 1024]}
BATCH = {"FashionMNIST": 128, "ForestCover": 256}


class MaskedNetwork(nn.Module):
    """Network that multiplies weight and mask in every forward pass, the simplest implementation of sparsity."""

    def __init__(self, network: nn.Sequential, sparsity: float) -> None:
        super().__init__()
        self.network = network
        *hidden, _ = (layer for layer in network if isinstance(layer, nn.Linear))
        self.hidden = hidden
        self.masks = [torch.rand_like(layer.weight) >= sparsity for layer in hidden]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        i = 0
        for module in self.network:
            if isinstance(module, nn.Linear) and i < len(self.masks):
                x = F.linear(x, module.weight * self.masks[i], module.bias)
                i += 1
            else:
                x = module(x)
        return x


def dense(n_in: int, hidden: list[int], n_classes: int) -> nn.Sequential:
    """Make a network of dense layers, each followed by LayerNorm and ReLU."""
    modules: list[nn.Module] = []
    for width in hidden:
        modules += [nn.Linear(n_in, width), nn.LayerNorm(width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*modules, nn.Linear(n_in, n_classes))


def epochs(kind: str, name: str, n_epochs: int = 3) -> list[float]:
    """Measure the seconds of each epoch.

    Args:
        kind: ``dense`` or ``masked``.
        name: Class name of the data set.
        n_epochs: Number of epochs.
    """
    rows = getattr(data, name)()
    rows.prepare_data()
    rows.setup()
    (x, y), (test_x, test_y) = ((s.x, s.y) for s in (rows._sets["train"], rows._sets["test"]))
    network: nn.Module = dense(rows.n_features, HIDDEN[name], rows.n_classes)
    if kind == "masked":
        network = MaskedNetwork(network, 0.9)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    seconds = []
    for _ in range(n_epochs):
        start = time.perf_counter()
        for batch in torch.randperm(len(y)).split(BATCH[name]):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            right = sum(
                int((network(a).argmax(1) == b).sum())
                for a, b in zip(test_x.split(2000), test_y.split(2000), strict=True)
            )
        seconds.append(time.perf_counter() - start)
    assert right > len(test_y) / rows.n_classes
    return seconds


if __name__ == "__main__":
    print(*epochs(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 3))
