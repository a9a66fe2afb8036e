"""Training steps and topology updates of the network 784–1024–1024–10, by storage and sparsity."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from psn_lightning.bench.timing import Row, summarise, time_in_turn
from psn_lightning.dynamics import RigLRule, Update, update_network
from psn_lightning.nn import SparseMLP, StorageName
from psn_lightning.topology import Bernoulli, Topology

SIZES = (784, 1024, 1024, 10)
PARTS = ("forward", "loss", "backward", "Adam", "zero_grad")
"""Parts of a training step, in the order of time."""

_BATCH = 128
_FRACTION = 0.3  # of the connections that an update moves


class Job:
    """A network in training on random rows.

    Args:
        storage: Storage of the layers; None for a dense network.
        sparsity: Sparsity of the hidden layers.
        sizes: Numbers of inputs, hidden neurons and classes.
    """

    def __init__(self, storage: StorageName | None, sparsity: float, sizes: tuple[int, ...] = SIZES) -> None:
        topology = Topology(Bernoulli(), 0.0 if storage is None else sparsity)
        self.network = SparseMLP(sizes, topology, storage=storage or "masked", seed=1)
        self.layers = self.network.sparse_layers()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3, fused=True)
        self.generator = torch.Generator()
        self.x, self.y = torch.randn(4096, sizes[0]), torch.randint(0, sizes[-1], (4096,))

    def backward(self) -> None:
        """Run a forward and a backward pass on drawn rows."""
        rows = torch.randint(0, len(self.x), (_BATCH,))
        self.optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(self.network(self.x[rows]), self.y[rows]))

    def step(self) -> None:
        """Run a training step."""
        self.backward()
        self.optimizer.step()

    def update(self) -> None:
        """Run an update of RigL in place of a step, and the step after it, which builds what the update left undone."""
        for layer in self.layers.values():
            layer.record_dense_gradient = True
        self.backward()
        update_network(self.layers, RigLRule(), Update(_FRACTION), self.optimizer, self.generator)
        for layer in self.layers.values():
            layer.record_dense_gradient = False
        self.step()


def measure_steps(sparsities: tuple[float, ...], seconds: float) -> Iterator[Row]:
    """Measure whole training steps; all storages and sparsities take turns.

    Args:
        sparsities: Sparsities of csr; the time of masked and dense does not depend on them.
        seconds: Seconds for each candidate.

    Yields:
        Rows with ``kind`` and ``sparsity``.
    """
    jobs = {("csr", s): Job("csr", s) for s in sparsities}
    jobs |= {("masked", 0.9): Job("masked", 0.9), ("dense", 0.0): Job(None, 0.0)}
    names = {f"{kind} {sparsity}": (kind, sparsity) for kind, sparsity in jobs}
    calls: dict[str, Callable[[], object]] = {name: jobs[key].step for name, key in names.items()}
    for name, durations in time_in_turn(calls, seconds).items():
        kind, sparsity = names[name]
        yield summarise(durations, part="step", kind=kind, sparsity=sparsity)


def measure_parts(sparsities: tuple[float, ...], steps: int) -> Iterator[Row]:
    """Measure the parts of a csr step one by one: what fusing the loss or the optimizer with another could gain.

    Args:
        sparsities: Sparsities.
        steps: Number of steps; the first tenth is left out.

    Yields:
        Rows with ``sparsity`` and ``what``.
    """
    for sparsity in sparsities:
        job, durations = Job("csr", sparsity), {what: list[float]() for what in PARTS}
        x, y = job.x[:_BATCH], job.y[:_BATCH]
        for _ in range(steps):
            times = [time.perf_counter()]
            logits = job.network(x)
            times.append(time.perf_counter())
            loss = F.cross_entropy(logits, y)
            times.append(time.perf_counter())
            torch.autograd.backward(loss)
            times.append(time.perf_counter())
            job.optimizer.step()
            times.append(time.perf_counter())
            job.optimizer.zero_grad()
            times.append(time.perf_counter())
            for (start, end), own in zip(itertools.pairwise(times), durations.values(), strict=True):
                own.append(end - start)
        for what, own in durations.items():
            yield summarise(own[steps // 10 :], part="parts", sparsity=sparsity, what=what)


def measure_updates(sparsities: tuple[float, ...], seconds: float) -> Iterator[Row]:
    """Measure an update of RigL with the step after it, and an ordinary step, in turn.

    Args:
        sparsities: Sparsities.
        seconds: Seconds for each candidate.

    Yields:
        Rows with ``kind``, ``sparsity`` and ``what``: step, or update and step.
    """
    for sparsity in sparsities:
        kinds: tuple[StorageName, ...] = ("csr", "masked")
        jobs = {kind: Job(kind, sparsity) for kind in kinds}
        calls: dict[str, Callable[[], object]] = {}
        for kind, job in jobs.items():
            calls |= {f"{kind}, step": job.step, f"{kind}, update and step": job.update}
        for name, durations in time_in_turn(calls, seconds).items():
            storage, what = name.split(", ")
            yield summarise(durations, part="update", kind=storage, sparsity=sparsity, what=what)
