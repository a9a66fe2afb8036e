"""Forward and backward pass of modules whose neurons share their inputs in groups, in storages csr and groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from psn_lightning.bench.layers import make_pass
from psn_lightning.bench.timing import Row, summarise, time_in_turn
from psn_lightning.nn import StorageName, sparsify
from psn_lightning.topology import Bernoulli, FanIn, Grouped, Wiring

_SIZES = (16, 32, 64)
_BLOCK = (64, 256, 64)  # of the dense layers in a block of the example transformer
_TOKENS = 49  # of an image there
_IMAGES = 128

Candidate = tuple[StorageName | None, FanIn | Wiring]
"""Storage of the sparse layers, None for dense ones; and their topology."""


def list_candidates() -> dict[str, Candidate]:
    """List what is compared, by name."""
    candidates: dict[str, Candidate] = {"dense": (None, Bernoulli())}
    candidates |= {kind: (kind, Bernoulli()) for kind in ("masked", "csr")}
    candidates |= {f"csr, groups of {size}": ("csr", Grouped(size)) for size in _SIZES}
    return candidates | {f"groups of {size}": ("groups", Grouped(size)) for size in _SIZES}


def make_module(candidate: Candidate, sizes: tuple[int, ...], sparsity: float) -> nn.Module:
    """Make Linears, with a GELU between two of them, of a candidate's storage and topology.

    Args:
        candidate: Storage and topology.
        sizes: Number of inputs, and of the neurons of each layer.
        sparsity: Sparsity of all layers.
    """
    storage, topology = candidate
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for i in range(1, len(sizes) - 1):
        layers += [nn.GELU(), nn.Linear(sizes[i], sizes[i + 1])]
    module = nn.Sequential(*layers)
    if storage is not None:
        sparsify(module, sparsity=sparsity, topology=topology, allocation="uniform", storage=storage)
    return module


def measure_groups(
    widths: tuple[int, ...], batches: tuple[int, ...], sparsities: tuple[float, ...], seconds: float
) -> Iterator[Row]:
    """Measure square layers, and the dense layers of a transformer's block; the candidates take turns.

    Args:
        widths: Numbers of inputs and of neurons of the square layers.
        batches: Numbers of rows of the square layers.
        sparsities: Sparsities.
        seconds: Seconds for each candidate.

    Yields:
        Rows with ``sizes``, ``batch``, ``sparsity`` and ``kind``.
    """
    modules: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((width, width), batches) for width in widths]
    modules.append((_BLOCK, (_IMAGES * _TOKENS,)))
    for sizes, rows in modules:
        for sparsity in sparsities:
            torch.manual_seed(0)
            made = {name: make_module(own, sizes, sparsity) for name, own in list_candidates().items()}
            for batch in rows:
                calls: dict[str, Callable[[], object]] = {
                    name: make_pass(module, sizes[0], batch) for name, module in made.items()
                }
                for kind, durations in time_in_turn(calls, seconds).items():
                    yield summarise(
                        durations,
                        part="groups",
                        kind=kind,
                        sizes="–".join(map(str, sizes)),
                        batch=batch,
                        sparsity=sparsity,
                    )
