"""A stack of sparse layers as an operator of torch, for ``torch.compile``; and without one, for ``torch.export``.

A compiled graph calls ``psn_lightning::stack`` with the number of a :class:`~psn_lightning.kernels.tiled.Stack` of this
process, which runs its kernels on the connections that it has at that time: a topology update needs no new graph. An
exported program outlives the process, and has to run where neither this package nor numba is: there the layers become
ordinary products with dense weights, which ONNX knows too.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from psn_lightning.kernels.tiled import Stack, WorkspaceLease
    from psn_lightning.kernels.workspace import Stage


class Pass(NamedTuple):
    """Forward pass of a compiled graph that waits for its backward pass."""

    lease: WorkspaceLease
    """Workspace with the activations."""
    parameters: list[Tensor]
    """Parameters that the pass has read, contiguous."""


_KEPT = 4  # forward passes of a stack whose activations wait for a backward pass; older ones are computed again
_numbers = itertools.count()
_stacks: weakref.WeakValueDictionary[int, Stack] = weakref.WeakValueDictionary()
_passes = itertools.count()


def register_stack(stack: Stack) -> int:
    """Make a stack known to compiled graphs.

    Args:
        stack: Stack; it is forgotten when nothing else refers to it.

    Returns:
        Number of the stack in this process.
    """
    number = next(_numbers)
    _stacks[number] = stack
    return number


def run_as_operator(x: Tensor, parameters: Sequence[Tensor], number: int) -> Tensor:
    """Compute the output of a stack within a graph of ``torch.compile``.

    Args:
        x: Input, shape ``(…, n_in)``.
        parameters: Parameters of all layers in order.
        number: Number of the stack.

    Returns:
        Output, shape ``(…, n_out)``.
    """
    result: Tensor = _stack(x, list(parameters), number, torch.is_grad_enabled())[0]
    return result


def run_densely(stages: Sequence[Stage], x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Compute the output of a stack by operators that every program of ``torch.export`` may have.

    The weights stay what they are, values of active connections, and are written into dense matrices on each call.

    Args:
        stages: Layers to compute.
        x: Input, shape ``(…, n_in)``.
        parameters: Parameters of all layers in order.

    Returns:
        Output, shape ``(…, n_out)``.
    """
    left = iter(parameters)
    for stage in stages:
        (n_out, n_in), values = stage.structure.shape, next(left).flatten()
        positions = torch.from_numpy(stage.structure.ordered_positions)
        weight = values.new_zeros(n_out * n_in).index_copy(0, positions, values).view(n_out, n_in)
        x = F.linear(x, weight, next(left))
        if stage.epsilon is not None:
            x = F.layer_norm(x, (n_out,), next(left), next(left), stage.epsilon).relu()
    return x


@torch.library.custom_op("psn_lightning::stack", mutates_args=())
def _stack(x: Tensor, parameters: list[Tensor], number: int, for_backward: bool) -> tuple[Tensor, Tensor]:
    """Output of a stack, and the number of the pass, by which the backward pass finds its activations."""
    stack, this_pass = _stacks[number], next(_passes)
    if not for_backward:
        with torch.no_grad():
            return stack.run(x, parameters), torch.tensor(this_pass)
    stack.refresh()
    rows = stack.check(x, parameters)
    lease = stack.lend_workspace(rows, for_backward=True)
    contiguous = [parameter.contiguous() for parameter in parameters]
    stack.waiting[this_pass] = Pass(lease, contiguous)
    while len(stack.waiting) > _KEPT:
        stack.waiting.popitem(last=False)
    result = lease.workspace.forward(rows, contiguous)
    return result.view(*x.shape[:-1], result.shape[1]), torch.tensor(this_pass)


@_stack.register_fake
def _(x: Tensor, parameters: list[Tensor], number: int, for_backward: bool) -> tuple[Tensor, Tensor]:
    dtype, n_out = parameters[0].dtype, _stacks[number].stages[-1].structure.shape[0]
    return x.new_empty(*x.shape[:-1], n_out, dtype=dtype), torch.empty((), dtype=torch.int64)


@torch.library.custom_op("psn_lightning::stack_backward", mutates_args=())
def _stack_backward(
    gradient: Tensor, x: Tensor, parameters: list[Tensor], this_pass: Tensor, number: int, needs_x: bool
) -> list[Tensor]:
    """Gradients to the input (empty if it is not needed) and to the parameters."""
    stack = _stacks[number]
    waiting, rows = stack.waiting.pop(int(this_pass), None), stack.check(x, parameters)
    if waiting is None:
        waiting = Pass(stack.lend_workspace(rows, for_backward=True), [p.contiguous() for p in parameters])
        waiting.lease.workspace.forward(rows, waiting.parameters)
    lease, contiguous = waiting
    flat_gradient = gradient.reshape(len(rows), -1).to(rows.dtype).contiguous()
    to_x, flat = lease.workspace.backward(flat_gradient, contiguous, needs_x)
    lease.workspace.call_hooks()
    parts = flat.split_with_sizes([parameter.numel() for parameter in parameters])
    to_parameters = [part.reshape(p.shape).clone() for part, p in zip(parts, parameters, strict=True)]
    return [x.new_empty(0) if to_x is None else to_x.view(x.shape).to(x.dtype), *to_parameters]


@_stack_backward.register_fake
def _(
    gradient: Tensor, x: Tensor, parameters: list[Tensor], this_pass: Tensor, number: int, needs_x: bool
) -> list[Tensor]:
    return [torch.empty_like(x) if needs_x else x.new_empty(0), *map(torch.empty_like, parameters)]


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, parameters, ctx.number, _ = inputs
    ctx.save_for_backward(x, output[1], *parameters)


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    x, this_pass, *parameters = ctx.saved_tensors
    needs_x = ctx.needs_input_grad[0]
    to_x, *to_parameters = _stack_backward(gradient, x, parameters, this_pass, ctx.number, needs_x)
    return (to_x if needs_x else None), to_parameters, None, None


_stack.register_autograd(_differentiate, setup_context=_keep_inputs)
