"""Groups of neurons that share their inputs: whole training steps of layers and networks, and updates."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.gpu_stages.session import Session, matmul_precision
from benchmarks.gpu_stages.steps import compiled
from psn_lightning.dynamics import RigLRule, update_layer
from psn_lightning.nn import sparse_layers, sparsify
from psn_lightning.nn.storages import StorageName
from psn_lightning.topology import Exponential, FanIn, Grouped, Uniform

_DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


def make(width: int, depth: int, sparsity: float, size: int, storage: StorageName, layout: FanIn) -> nn.Module:
    """Make a network of square layers with ReLU between them; dense at sparsity 0."""
    parts = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    network = nn.Sequential(*parts[: 2 * depth - 1])
    if sparsity > 0:
        sparsify(network, sparsity, Grouped(size, layout), "uniform", storage=storage)
    return network


def make_step(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Make the function of a training step: forward and backward pass, and fused Adam."""
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        network(x).sum().backward()
        optimizer.step()

    return step


def groups(session: Session) -> None:
    """Training step of layers whose neurons share their inputs, against dense, compiled, 2:4 and masked ones."""
    cases = [(64, 1, 32)] if session.quick else [(4096, 1, 2048), (8192, 1, 2048), (1024, 1, 2048), (4096, 4, 2048)]
    cases += [] if session.quick else [(16384, 1, 2048)]
    for width, depth, batch in cases:
        for name, dtype in _DTYPES.items():
            where = f"{width} × {depth}, {batch} rows, {name}"
            x = torch.randn(batch, width, device=session.device, dtype=dtype, requires_grad=True)
            run = functools.partial(_time, session, x)
            dense = functools.partial(make, width, depth, 0.0, 1, "masked", Uniform())
            run(f"{where}: dense", dense)
            if session.device == "cuda":
                run(f"{where}: dense, compiled", lambda new=dense: compiled(new()))
                _time_two_of_four(session, f"{where}: 2:4, forward pass alone", x)
            for sparsity in (0.9,) if session.quick else (0.9, 0.95, 0.98, 0.99):
                at = f"{where}, {sparsity:.0%}"
                run(f"{at}: masked", functools.partial(make, width, depth, sparsity, 16, "masked", Uniform()))
                for size in (16,) if session.quick else (64, 16, 32, 128):
                    new = functools.partial(make, width, depth, sparsity, size, "groups", Uniform())
                    run(f"{at}: groups of {size}", new)
                uneven = functools.partial(make, width, depth, sparsity, 16, "groups", Exponential())
                run(f"{at}: groups of 16, exponential", uneven)


def _time(session: Session, x: Tensor, what: str, new: Callable[[], nn.Module]) -> None:
    if session.seconds_left < 30:
        return
    with session.tried(what), matmul_precision("high"):
        step = make_step(new().to(x.device, x.dtype), x)
        us, _ = session.time(step, 3 if session.quick else 10, 3)
        memory = torch.cuda.max_memory_allocated() / 2**20 if x.is_cuda else 0.0
        session.note(what, us=us, MiB=round(memory))


def _time_two_of_four(session: Session, what: str, x: Tensor) -> None:
    """Time the product with a weight in NVIDIA's 2:4 format, which has no backward pass of this kind."""
    width = x.shape[1]
    with session.tried(what):
        kept = torch.tensor([1, 1, 0, 0], device=x.device, dtype=x.dtype).tile(width, width // 4)
        weight = torch.sparse.to_sparse_semi_structured(
            torch.randn(width, width, device=x.device, dtype=x.dtype) * kept
        )
        rows = x.detach()
        us, _ = session.time(lambda: nn.functional.linear(rows, weight), 10, 3)
        session.note(what, us=us)


def group_updates(session: Session) -> None:
    """One RigL update of a layer with groups, in storage groups and masked."""
    for width in (64,) if session.quick else (1024, 4096, 8192):
        for storage in ("groups", "masked"):
            what = f"{width} × {width}, groups of 16, {storage}"
            if session.seconds_left < 30:
                return
            with session.tried(what):
                network = make(width, 1, 0.9, 16, storage, Exponential()).to(session.device)
                (layer,) = sparse_layers(network).values()
                layer.record_dense_gradient = True
                x = torch.randn(128, width, device=session.device, requires_grad=True)
                optimizer = torch.optim.Adam(network.parameters(), fused=True)
                network(x).square().mean().backward()
                generator = torch.Generator().manual_seed(1)
                call = functools.partial(update_layer, layer, RigLRule(), 0.1, optimizer, generator)
                us, _ = session.time(call, 3 if session.quick else 10, 1)
                session.note(what, ms=round(us / 1e3, 2))
