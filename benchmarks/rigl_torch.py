"""Fan-in CCV (std / mean) of RigL in rigl-torch 0.5.2 and in psn_lightning, with equal network and data.

``python -m benchmarks.rigl_torch --epochs 20`` trains 784–1024–1024–10 on Fashion-MNIST at 90%, uniform density,
ΔT = 100, α = 0.3, until 75% of the run, batch 128, Adam at 0.001, and prints a line of JSON for each package.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rigl_torch.RigL import RigLScheduler
from torch import Tensor, nn

from psn_lightning import Bernoulli, Connectivity, CosineSchedule, RigLRule, TopologyUpdater, fan_in_ccv, sparse_layers
from psn_lightning import sparsify as make_sparse
from psn_lightning.data import FashionMNIST

SPARSITY, PERIOD, ALPHA, END = 0.9, 100, 0.3, 0.75


class Norm(nn.Module):
    """LayerNorm without parameters: rigl-torch makes every parameter named weight sparse."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each row."""
        return F.layer_norm(x, x.shape[1:])


class Output(nn.Module):
    """Dense layer without a parameter named weight, so that rigl-torch keeps it dense."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(n_out, n_in) * (2 / n_in) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return F.linear(x, self.matrix, self.bias)


class Network(nn.Module):
    """Network 784–1024–1024–10, with an unused Linear first: rigl-torch keeps the first one dense."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.unused = nn.Linear(1, 1)
        hidden = [nn.Linear(784, 1024), nn.Linear(1024, 1024)]
        for layer in hidden:
            nn.init.normal_(layer.weight, std=(2 / (layer.in_features * (1 - SPARSITY))) ** 0.5)
            nn.init.zeros_(layer.bias)
        self.body = nn.Sequential(hidden[0], Norm(), nn.ReLU(), hidden[1], Norm(), nn.ReLU(), Output(1024, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.body(x)
        return logits


def theirs(network: Network, optimizer: torch.optim.Optimizer, steps: int) -> Callable[[], None]:
    """Make the function that takes an optimizer step or a topology update in rigl-torch."""
    scheduler = RigLScheduler(
        network, optimizer, 1 - SPARSITY, T_end=int(END * steps), delta=PERIOD, alpha=ALPHA, ignore_linear_layers=False
    )
    return lambda: optimizer.step() if scheduler() else None


def ours(network: Network, optimizer: torch.optim.Optimizer, steps: int) -> Callable[[], None]:
    """Make the function that takes an optimizer step or a topology update in psn_lightning."""
    make_sparse(network, SPARSITY, Bernoulli(), "uniform", exclude=["unused"])
    schedule = CosineSchedule(ALPHA, PERIOD, 0, END)
    updater = TopologyUpdater(sparse_layers(network), RigLRule(), schedule, optimizer, steps)

    def step() -> None:
        updater.before_step()
        optimizer.step()

    return step


def run(make: Callable[[Network, torch.optim.Optimizer, int], Callable[[], None]], epochs: int, seed: int) -> None:
    """Train the network, and print CCV, accuracy and time as JSON.

    Args:
        make: :func:`theirs` or :func:`ours`.
        epochs: Number of epochs.
        seed: Seed of weights and order of batches.
    """
    data = FashionMNIST()
    data.prepare_data()
    data.setup()
    rows, test = data._sets["train"], data._sets["test"]
    network = Network(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    per_epoch = -(-len(rows) // 128)
    step = make(network, optimizer, epochs * per_epoch)
    generator, accuracies, seconds = torch.Generator().manual_seed(seed), [], []
    for _ in range(epochs):
        start = time.perf_counter()
        for index in torch.randperm(len(rows), generator=generator).split(128):
            optimizer.zero_grad()
            F.cross_entropy(network(rows.x[index]), rows.y[index]).backward()
            step()
        seconds.append(time.perf_counter() - start)
        with torch.no_grad():
            accuracies.append((network(test.x).argmax(dim=1) == test.y).float().mean().item())
    linears = [module for module in network.body if isinstance(module, nn.Linear)]
    masks = [Connectivity.from_mask((layer.weight != 0).numpy()) for layer in linears]
    ccvs = [fan_in_ccv(mask) for mask in masks]
    results = {
        "package": "rigl-torch 0.5.2" if make is theirs else "psn_lightning",
        "epochs": epochs,
        "seed": seed,
        "ccv": [round(ccv, 4) for ccv in ccvs],
        "mean_ccv": round(statistics.mean(ccvs), 4),
        "connections": [mask.n_connections for mask in masks],
        "accuracy": round(accuracies[-1], 4),
        "seconds_per_epoch": round(statistics.median(seconds), 2),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(results), flush=True)


def main() -> None:
    """Train with both packages, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    for make in (theirs, ours):
        run(make, options.epochs, options.seed)


if __name__ == "__main__":
    main()
