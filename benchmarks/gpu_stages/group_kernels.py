"""Products of groups of neurons that share their inputs: Triton's kernels against torch's batched products."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.gpu_stages.session import Session, matmul_precision
from psn_lightning.kernels.triton_groups import BLOCKS, Blocks, GroupPlan
from psn_lightning.nn.group_structure import KINDS, GroupStructure, Kind

_BLOCKS = (BLOCKS, Blocks(64, 64, 8, 3), Blocks(32, 128, 8, 3), Blocks(32, 128, 4, 4))


def triton(session: Session) -> None:
    """Outputs and both gradients of one layer, by torch and by Triton with blocks of several sides."""
    if session.device != "cuda":
        session.note("left out: Triton's kernels need a GPU; its interpreter tests them")
        return
    for width, batch in ((4096, 2048), (8192, 2048), (1024, 2048)):
        for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
            for sparsity in (0.9, 0.95):
                for size in (16, 64, 128):
                    if session.seconds_left < 40:
                        return
                    with session.tried(f"{width}, {name}, groups of {size}"), matmul_precision("high"):
                        _compare(session, width, batch, dtype, sparsity, size)


def _compare(session: Session, width: int, batch: int, dtype: torch.dtype, sparsity: float, size: int) -> None:
    n_groups, fan_in = width // size, round(width * (1 - sparsity))
    chosen = [torch.randperm(width)[:fan_in].sort().values + group * width for group in range(n_groups)]
    neurons = torch.arange(n_groups).repeat_interleave(size)
    structure = GroupStructure(neurons, width, torch.cat(chosen)).to(session.device)
    shapes = {"w": (structure.n_pairs, size), "x": (width, batch), "y": (width, batch)}
    drawn = {kind: torch.randn(shapes[kind], device=session.device, dtype=dtype) for kind in KINDS}
    plans = [GroupPlan(structure.inputs, structure.ends, width, size, blocks) for blocks in _BLOCKS]
    for kind in KINDS:
        a, b = (drawn[other] for other in KINDS if other != kind)
        by_torch = session.time(functools.partial(structure.solve, kind, a, b), 20, 3)[0]
        by_triton = [session.time(_make_call(plan, kind, a, b), 20, 3)[0] for plan in plans]
        best = min(by_triton)
        error = (_make_call(plans[0], kind, a, b)() - structure.solve(kind, a, b)).float().abs().max()
        session.note(
            f"{width}, {batch} rows, {dtype}, groups of {size} at {sparsity:.0%}: {kind}",
            torch_us=by_torch,
            triton_us=best,
            blocks=tuple(_BLOCKS[by_triton.index(best)]),
            times=round(by_torch / best, 2),
            largest_difference=float(error),
        )


def _make_call(plan: GroupPlan, kind: Kind, a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    solve = {"w": plan.solve_w, "x": plan.solve_x, "y": plan.solve_y}[kind]
    return functools.partial(solve, a, b)
