"""Bare training steps: eager, TF32, bf16, compiled, as one CUDA graph; what the device does in one."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_stages.session import Session, matmul_precision
from psn_lightning.bench.loops import make_network
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Topology, Uniform

Step = Callable[[], object]


@functools.lru_cache(1)
def _build(sizes: tuple[int, ...], sparsity: float) -> SparseMLP:
    return SparseMLP(list(sizes), Topology(Uniform(), sparsity), "even", storage="masked", seed=1)


def network(session: Session, *sizes: int) -> SparseMLP:
    """A masked network at 90%; wide ones take seconds to build, so that one is kept."""
    return copy.deepcopy(_build(sizes, 0.9)).to(session.device)


def _make_step(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    batch: int,
    autocast: torch.dtype | None = None,
    reads_loss: bool = False,
    reapplies: bool = True,
    capturable: bool = False,
) -> Step:
    """Make a training step on rows that lie on the device."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, capturable=capturable)
    index = torch.randint(0, len(x), (batch,), device=x.device)
    layers = list(net.sparse_layers().values()) if isinstance(net, SparseMLP) and reapplies else []

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, autocast) if autocast else contextlib.nullcontext():
            loss = F.cross_entropy(net(x.index_select(0, index)), y.index_select(0, index))
        if reads_loss:
            loss.item()
        loss.backward()
        optimizer.step()
        for layer in layers:
            layer.apply_mask()

    return step


class _CapturedStep:
    """A step as one CUDA graph, whose memory belongs to the step's network and optimizer."""

    def __init__(self, step: Step) -> None:
        self._step = step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step()

    def __call__(self) -> None:
        self._graph.replay()


def compiled(net: nn.Module, mode: str | None = None) -> nn.Module:
    """Compile a module in place, for its shapes alone: earlier modules would make them symbolic."""
    torch.compiler.reset()
    net.compile(mode=mode)
    return net


def _candidates(session: Session, width: int, batch: int) -> dict[str, Callable[[], Step]]:
    """Return functions that make the steps to compare, by name; those with TF32 in their name may use it."""
    sizes = (784, width, width, 10)
    x = torch.randn(max(batch, 4096), 784, device=session.device)
    y = torch.randint(0, 10, (len(x),), device=session.device)
    make = functools.partial(_make_step, x=x, y=y, batch=batch)
    masked = functools.partial(network, session, *sizes)

    def plain() -> nn.Module:
        return make_network("dense", [784, width, width, 10], 0.0).to(session.device)

    candidates: dict[str, Callable[[], Step]] = {
        "dense, eager": lambda: make(plain()),
        "dense, eager, TF32": lambda: make(plain()),
        "masked, eager": lambda: make(masked()),
        "masked, eager, loss read": lambda: make(masked(), reads_loss=True),
        "masked, eager, masks not re-applied": lambda: make(masked(), reapplies=False),
        "masked, eager, TF32": lambda: make(masked()),
        "masked, eager, bf16 autocast": lambda: make(masked(), autocast=torch.bfloat16),
    }
    if session.device == "cuda":
        candidates |= {
            "masked, CUDA graph": lambda: _CapturedStep(make(masked(), capturable=True)),
            "masked, CUDA graph, TF32": lambda: _CapturedStep(make(masked(), capturable=True)),
            "dense, CUDA graph, TF32": lambda: _CapturedStep(make(plain(), capturable=True)),
        }
        if (width, batch) == (1024, 128):  # the compiler takes half a minute each
            candidates |= {
                "masked, compiled, TF32": lambda: make(compiled(masked())),
                "masked, reduce-overhead, TF32": lambda: make(compiled(masked(), "reduce-overhead")),
                "dense, compiled, TF32": lambda: make(compiled(plain())),
            }
    return candidates


def step(session: Session) -> None:
    """One training step of the bare network."""
    for width, batch in [(64, 32)] if session.quick else [(1024, 128), (1024, 1024), (4096, 128), (4096, 1024)]:
        if session.seconds_left < 60:
            return
        candidates = _candidates(session, width, batch)
        for name, candidate in candidates.items():
            what = f"784-{width}-{width}-10, {batch} rows: {name}"
            with session.tried(what), matmul_precision("high" if "TF32" in name else "highest"):
                us, host = session.time(candidate(), 5 if session.quick else 50)
                session.note(what, us=us, host_us=host)
        if session.device == "cuda" and (width, batch) == (1024, 128):
            with session.tried("kernels of a step"):
                _profile(session, candidates["masked, eager"]())


def _profile(session: Session, call: Step) -> None:
    """Note how long the device works in a step, and on what."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(10):
        call()
    session.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(20):
            call()
        session.synchronize()
    kernels = [
        e
        for e in profiler.key_averages()
        if e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation
    ]
    total, count = sum(e.self_device_time_total for e in kernels), sum(e.count for e in kernels)
    session.note("the device works, of a masked eager step", us=round(total / 20, 1), kernels=count / 20)
    for e in sorted(kernels, key=lambda e: -e.self_device_time_total)[:12]:
        session.note(f"  {e.key[:56]}", us=round(e.self_device_time_total / 20, 1), times=e.count / 20)
    profiler.export_chrome_trace(str(session.folder / "step_trace.json.gz"))
