"""The real job without Lightning: bare PyTorch loops, as fast as plain PyTorch goes.

``python -m benchmarks.loops dense FashionMNIST`` prints the seconds of each epoch: training, and the test set once,
as in ``psn-train fit``. Fused Adam, whole batches cut out of tensors in memory.
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
    """What a researcher writes first: weight times mask in every forward pass."""

    def __init__(self, network: nn.Sequential, sparsity: float) -> None:
        super().__init__()
        self.network = network
        *hidden, _ = (layer for layer in network if isinstance(layer, nn.Linear))
        self.hidden = hidden
        self.masks = [torch.rand_like(layer.weight) >= sparsity for layer in hidden]

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        i = 0
        for module in self.network:
            if isinstance(module, nn.Linear) and i < len(self.masks):
                x = F.linear(x, module.weight * self.masks[i], module.bias)
                i += 1
            else:
                x = module(x)
        return x


def dense(n_in: int, hidden: list[int], n_classes: int) -> nn.Sequential:
    """The network with dense layers."""
    modules: list[nn.Module] = []
    for width in hidden:
        modules += [nn.Linear(n_in, width), nn.LayerNorm(width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*modules, nn.Linear(n_in, n_classes))


def epochs(kind: str, name: str, n_epochs: int = 3) -> list[float]:
    """Seconds of each epoch."""
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
