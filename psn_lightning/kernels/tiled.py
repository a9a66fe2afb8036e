"""A stack of sparse layers as one autograd function: a batch is converted to tiles once for all layers."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from psn_lightning.kernels.operator import Pass, register_stack, run_as_operator, run_densely
from psn_lightning.kernels.workspace import Stage, Workspace

_EVALUATION_ROWS = 256  # rows per pass without gradients; their activations stay in the cache
_FEWEST_ROWS, _MOST_ACTIVATIONS = 64, 2**25  # of very wide networks, whose activations would not fit into memory
_MAX_SHAPES = 4  # kinds of batches with a kept workspace: training, evaluation, and the last batch of either


class Stack:
    """Sparse layers that are computed in one pass, with a pool of workspaces.

    Args:
        stages: Layers in the order of the forward pass.
        refresh: Function that is called before each pass, within a compiled graph too; it may :meth:`connect` others.
    """

    def __init__(self, stages: Sequence[Stage], refresh: Callable[[], None] | None = None) -> None:
        self._free: OrderedDict[tuple[Any, ...], list[Workspace]] = OrderedDict()
        self._number = register_stack(self)
        self._refresh = refresh
        self.waiting: OrderedDict[int, Pass] = OrderedDict()
        """Passes of compiled graphs that wait for their backward pass, by number; see :mod:`.operator`."""
        self.connect(stages)

    def connect(self, stages: Sequence[Stage]) -> None:
        """Replace the layers by layers of the same widths with other connections or another epsilon."""
        self.stages = stages
        self._sizes = [size for stage in stages for size in stage.parameters.values()]

    def __getstate__(self) -> dict[str, Any]:
        """State without the workspaces: a copy allocates its own."""
        return {**self.__dict__, "_free": OrderedDict(), "waiting": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of another stack, but not its number."""
        vars(self).update(state, _number=register_stack(self))

    def __call__(self, x: Tensor, parameters: Sequence[Any]) -> Tensor:
        """Compute the output of the last layer.

        Args:
            x: Input, shape ``(…, n_in)``.
            parameters: Parameters of all layers in order, tensors, see :attr:`Stage.parameters`.

        Returns:
            Output, shape ``(…, n_out)``.

        Raises:
            ValueError: If the last dimension of ``x`` is not ``n_in``.
            RuntimeError: If ``x`` or the parameters are not on a CPU, the parameters are neither float32 nor float64,
                the dtype of ``x`` differs from theirs, their sizes do not fit the layers, or the call is traced by
                ``torch.jit``.
        """
        if torch.compiler.is_exporting():
            self.refresh()
            return run_densely(self.stages, x, parameters)
        if torch.compiler.is_compiling():
            return run_as_operator(x, parameters, self._number)
        return self.run(x, parameters)

    def refresh(self) -> None:
        """Connect the layers that are the present ones."""
        if self._refresh is not None:
            self._refresh()

    def run(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Run the kernels; see :meth:`__call__`."""
        self.refresh()
        rows = self.check(x, parameters)
        parameters = [p.contiguous() for p in parameters]
        if torch.is_grad_enabled():
            result: Tensor = _StackFunction.apply(rows, self, *parameters)
        else:
            width = sum(stage.structure.shape[0] for stage in self.stages)
            n_rows = min(_EVALUATION_ROWS, max(_FEWEST_ROWS, _MOST_ACTIVATIONS // width))
            parts = [self._evaluate(part, parameters) for part in torch.split(rows, n_rows)]
            result = parts[0] if len(parts) == 1 else torch.cat(parts)
        return result if x.dim() == 2 else result.view(*x.shape[:-1], result.shape[1])

    def check(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Check the arguments of a call, and return the rows of the input, shape ``(n_rows, n_in)``, contiguous."""
        n_in = self.stages[0].structure.shape[1]
        if x.dim() == 0 or x.shape[-1] != n_in:
            raise ValueError(f"input of shape {tuple(x.shape)}, expected (…, {n_in}): the layer has {n_in} inputs")
        dtype = parameters[0].dtype
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            raise RuntimeError("storage csr cannot be traced: call psn_lightning.densify(model) first, or torch.export")
        if not x.device.type == parameters[0].device.type == "cpu":
            raise RuntimeError(
                f"storage csr runs on CPUs only, input is on {x.device}, weights are on {parameters[0].device}: use "
                "storage masked or a CPU"
            )
        if dtype not in {torch.float32, torch.float64}:
            raise RuntimeError(
                f"storage csr supports float32 and float64, weights are {dtype}: convert them or use storage masked"
            )
        if x.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise RuntimeError(f"dtype of the input is {x.dtype}, of the weights {dtype}: convert one of them")
        if any(p.numel() != size or p.dtype != dtype for p, size in zip(parameters, self._sizes, strict=True)):
            found = ", ".join(f"{tuple(p.shape)} {p.dtype}" for p in parameters)
            raise RuntimeError(f"parameters {found} do not match sizes {self._sizes} and dtype {dtype}")
        rows = x if x.dim() == 2 else x.reshape(-1, n_in)  # reshaping a matrix would add a node to the graph
        return rows.to(dtype).contiguous()

    def _evaluate(self, rows: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        lease = self.lend_workspace(rows, for_backward=False)  # a reference until the pass has ended
        return lease.workspace.forward(rows, parameters)

    def lend_workspace(self, x: Tensor, for_backward: bool) -> WorkspaceLease:
        """Lend a workspace that fits a batch.

        Args:
            x: Batch, shape ``(n_rows, n_in)``.
            for_backward: Whether a backward pass may follow.
        """
        key = (len(x), x.dtype, for_backward, torch.get_num_threads())
        free = self._free.setdefault(key, [])
        workspace = None
        with contextlib.suppress(KeyError, IndexError):  # another thread may have taken it, or the key away
            self._free.move_to_end(key)
            if len(self._free) > _MAX_SHAPES:
                self._free.popitem(last=False)
            workspace = free.pop()
        workspace = workspace or Workspace(self.stages, len(x), x.dtype, for_backward)
        if workspace.stages is not self.stages:
            workspace.connect(self.stages)
        return WorkspaceLease(workspace, free)


class WorkspaceLease:
    """A workspace in use; it returns to the pool when the autograd graph of the pass is freed."""

    def __init__(self, workspace: Workspace, free: list[Workspace]) -> None:
        self.workspace = workspace
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.workspace)


class _StackFunction(torch.autograd.Function):
    """Autograd function of a :class:`Stack`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stack: Stack, *parameters: Tensor) -> Tensor:
        ctx.lease = stack.lend_workspace(x, for_backward=True)
        ctx.save_for_backward(*parameters)
        ctx.held = [parameter.untyped_storage() for parameter in parameters]  # no new tensor gets their addresses
        return ctx.lease.workspace.forward(x, parameters)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # set by create_graph=True
            raise RuntimeError(
                "storage csr does not support second derivatives (create_graph=True): use storage masked"
            )
        workspace, parameters = ctx.lease.workspace, ctx.saved_tensors
        to_x, flat = workspace.backward(gradient.contiguous(), parameters, ctx.needs_input_grad[0])
        workspace.call_hooks()
        parts = flat.split_with_sizes([parameter.numel() for parameter in parameters])
        return to_x, None, *(g if p.dim() == 1 else g.view(p.shape) for g, p in zip(parts, parameters, strict=True))
