"""A stack of sparse layers as one autograd function: batches become tiles once, and stay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from psn_lightning.kernels.workspace import Stage, Workspace

_EVALUATED_AT_ONCE = 256  # rows; without gradients nothing needs them together, and so many stay in the cache
_SHAPES = 4  # kinds of batches whose workspaces are kept: training and evaluation, and the last ones of both


class Stack:
    """The layers of a network, or one of them, and the workspaces that they have used.

    Args:
        stages: The layers.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._free: OrderedDict[tuple[Any, ...], list[Workspace]] = OrderedDict()
        self.connect(stages)

    def connect(self, stages: Sequence[Stage]) -> None:
        """Go on with other connections, or another ε, in the same memory."""
        self.stages = stages
        self._sizes = [size for stage in stages for size in stage.parameters.values()]

    def __getstate__(self) -> dict[str, Any]:
        """A copy works in memory of its own."""
        return {**self.__dict__, "_free": OrderedDict()}

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the kernels are compiled already
    def __call__(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Take a batch through: ``(…, n_in)`` → ``(…, n_out)``.

        Args:
            x: The batch.
            parameters: Those of all stages, in order.

        Raises:
            ValueError: If the batch has another number of features.
            RuntimeError: If it is not on a CPU, the parameters are neither float32 nor float64, or not what the
                stages have.
        """
        (n_out, n_in) = self.stages[-1].structure.shape[0], self.stages[0].structure.shape[1]
        if x.dim() == 0 or x.shape[-1] != n_in:
            raise ValueError(f"the input has shape {tuple(x.shape)}, but the layer reads {n_in} features")
        dtype = parameters[0].dtype
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            raise RuntimeError(
                "storage csr cannot be exported or traced: psn_lightning.densify(model) gives a plain model"
            )
        if x.device.type != "cpu":
            raise RuntimeError(f"storage csr runs on CPUs only, not on {x.device}: use storage masked, or the CPU")
        if dtype not in {torch.float32, torch.float64}:
            raise RuntimeError(
                f"storage csr computes in float32 or float64, not {dtype}: use one of them, or storage masked"
            )
        if x.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise RuntimeError(f"the input is {x.dtype}, but the layer's weights are {dtype}: convert one of them")
        if any(p.numel() != size or p.dtype != dtype for p, size in zip(parameters, self._sizes, strict=True)):
            found = ", ".join(f"{tuple(p.shape)} {p.dtype}" for p in parameters)
            raise RuntimeError(f"the parameters {found} do not fit to {self._sizes} numbers of one type")
        parameters = [p.contiguous() for p in parameters]
        rows = x if x.dim() == 2 else x.reshape(-1, n_in)  # a view has a node of its own in the graph
        rows = rows.to(dtype).contiguous()
        if torch.is_grad_enabled():
            result: Tensor = _Pass.apply(rows, self, *parameters)
        else:
            parts = [self._evaluated(part, parameters) for part in torch.split(rows, _EVALUATED_AT_ONCE)]
            result = parts[0] if len(parts) == 1 else torch.cat(parts)
        return result if x.dim() == 2 else result.view(*x.shape[:-1], n_out)

    def _evaluated(self, rows: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        lease = self.lend(rows, keeps=False)  # held until the pass is through
        return lease.workspace.forward(rows, parameters)

    def lend(self, x: Tensor, keeps: bool) -> Lease:
        """A workspace for this batch."""
        key = (len(x), x.dtype, keeps, torch.get_num_threads())
        free = self._free.setdefault(key, [])
        self._free.move_to_end(key)
        if len(self._free) > _SHAPES:
            self._free.popitem(last=False)
        workspace = free.pop() if free else Workspace(self.stages, len(x), x.dtype, keeps)
        if workspace.stages is not self.stages:
            workspace.connect(self.stages)
        return Lease(workspace, free)


class Lease:
    """A workspace in use; it comes back when the graph of the pass is gone."""

    def __init__(self, workspace: Workspace, free: list[Workspace]) -> None:
        self.workspace = workspace
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.workspace)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stack: Stack, *parameters: Tensor) -> Tensor:
        ctx.lease = stack.lend(x, keeps=True)
        ctx.save_for_backward(*parameters)
        ctx.held = [parameter.untyped_storage() for parameter in parameters]  # an address stays what it was
        return ctx.lease.workspace.forward(x, parameters)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # which is create_graph=True
            raise RuntimeError(
                "storage csr has no second derivatives (create_graph=True, a gradient penalty): use storage masked"
            )
        workspace, parameters = ctx.lease.workspace, ctx.saved_tensors
        to_x, flat = workspace.backward(gradient.contiguous(), parameters, ctx.needs_input_grad[0])
        workspace.note()
        parts = flat.split_with_sizes([parameter.numel() for parameter in parameters])
        return to_x, None, *(g if p.dim() == 1 else g.view(p.shape) for g, p in zip(parts, parameters, strict=True))
