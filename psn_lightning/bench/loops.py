"""Bare PyTorch loops, the baselines of ``psn-train fit``: fused Adam, and batches indexed from tensors in memory.

``python -m psn_lightning.bench.loops csr FashionMNIST 0.9 3`` prints the seconds of each epoch, which is training with
RigL's updates and one pass over the test set.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psn_lightning import data
from psn_lightning.dynamics import RigLRule, Update, update_network
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology

Kind = Literal["dense", "masked", "csr"]
"""``dense``: no mask; ``masked``: weight times mask in every forward pass, the simplest implementation of sparsity;
``csr``: the layers of this package, with RigL."""

_HIDDEN = {"FashionMNIST": [1024, 1024], "ForestCover": [1024, 1024, 1024]}
_BATCH = {"FashionMNIST": 128, "ForestCover": 256}
_EVALUATION_ROWS = 2000
_PERIOD, _FRACTION, _END = 100, 0.3, 0.75  # of RigL, as in conf/rules/rigl.yaml


class MaskedNetwork(nn.Module):
    """Network that multiplies weight and mask in every forward pass."""

    def __init__(self, network: nn.Sequential, sparsity: float) -> None:
        super().__init__()
        self.network = network
        *hidden, _ = (layer for layer in network if isinstance(layer, nn.Linear))
        self.masks = [torch.rand_like(layer.weight) >= sparsity for layer in hidden]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        masks = iter(self.masks)
        for module in self.network:
            if isinstance(module, nn.Linear) and (mask := next(masks, None)) is not None:
                x = F.linear(x, module.weight * mask, module.bias)
            else:  # the output layer has no mask
                x = module(x)
        return x


def make_network(kind: Kind, sizes: list[int], sparsity: float) -> nn.Module:
    """Make a network of layers, each but the last followed by LayerNorm and ReLU."""
    if kind == "csr":
        return SparseMLP(sizes, Topology(Bernoulli(), sparsity), storage="csr", seed=1)
    modules: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes[:-1]):
        modules += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ReLU()]
    network = nn.Sequential(*modules, nn.Linear(sizes[-2], sizes[-1]))
    return network if kind == "dense" else MaskedNetwork(network, sparsity)


def run_loop(kind: Kind, name: str, sparsity: float, n_epochs: int) -> list[float]:
    """Train, and measure the seconds of each epoch.

    Args:
        kind: Implementation of the layers.
        name: Class name of the data set.
        sparsity: Sparsity of the hidden layers; dense has none.
        n_epochs: Number of epochs.
    """
    rows = getattr(data, name)()
    rows.prepare_data()
    rows.setup()
    (x, y), (test_x, test_y) = ((s.x, s.y) for s in (rows._sets["train"], rows._sets["test"]))
    network = make_network(kind, [rows.n_features, *_HIDDEN[name], rows.n_classes], sparsity)
    layers = network.sparse_layers() if isinstance(network, SparseMLP) else {}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    generator, step, end = torch.Generator(), 0, _END * n_epochs * len(y) / _BATCH[name]
    seconds = []
    for _ in range(n_epochs):
        start = time.perf_counter()
        for batch in torch.split(torch.randperm(len(y)), _BATCH[name]):
            is_update = bool(layers) and step % _PERIOD == 0 and step < end
            for layer in layers.values() if is_update else ():
                layer.record_dense_gradient = True
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(network(x[batch]), y[batch]))
            if is_update:
                fraction = _FRACTION * (1 + math.cos(math.pi * step / end)) / 2
                update_network(layers, RigLRule(), Update(fraction), optimizer, generator)
                for layer in layers.values():
                    layer.record_dense_gradient = False
            else:
                optimizer.step()
            step += 1
        with torch.no_grad():
            parts = zip(*(torch.split(t, _EVALUATION_ROWS) for t in (test_x, test_y)), strict=True)
            right = sum(int((network(a).argmax(1) == b).sum()) for a, b in parts)
        seconds.append(time.perf_counter() - start)
    if right <= len(test_y) / rows.n_classes:
        raise RuntimeError(f"{kind} has learnt nothing from {name}: {right} of {len(test_y)} rows are right")
    return seconds


def main(arguments: list[str]) -> None:
    """Run a loop and print the seconds of its epochs as JSON."""
    kind, name, sparsity, n_epochs = arguments
    (found,) = (known for known in get_args(Kind) if known == kind)
    sys.stdout.write(json.dumps(run_loop(found, name, float(sparsity), int(n_epochs))))


if __name__ == "__main__":
    main(sys.argv[1:])
