"""Products of groups for autograd: differentiable as often as one likes, in graphs of ``torch.compile`` as well.

A compiled graph calls ``psn_lightning::group_product`` with the number of a structure of this process, which has the
connections of that time: a topology update needs no new graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from psn_lightning.nn.group_structure import KINDS, GroupStructure, Kind, find_structure


def multiply(weight: Tensor, x: Tensor, structure: GroupStructure) -> Tensor:
    """Multiply inputs by the weights of a structure.

    Args:
        weight: Weights, shape ``(n_pairs, size)``.
        x: Inputs by feature, shape ``(n_in, rows)``, dtype of ``weight``.
        structure: Structure of the layer.

    Returns:
        Outputs by neuron, shape ``(n_out, rows)``.
    """
    if torch.compiler.is_compiling():
        made: Tensor = _operator("y", weight, x, structure.number, weight.shape[0])
    else:
        made = _Product.apply(weight, x, structure, "y")
    return made


def _differentiate(
    kind: Kind,
    factors: Sequence[Tensor],
    gradient: Tensor,
    needed: Sequence[bool],
    solve: Callable[[Kind, Tensor, Tensor], Tensor],
) -> list[Tensor | None]:
    """Compute the gradients to both factors of a product.

    Args:
        kind: What the product computed.
        factors: Its factors.
        gradient: Gradient to the product.
        needed: Whether the gradient to each factor is needed.
        solve: Product of two factors, see :meth:`GroupStructure.solve`.
    """
    others = [other for other in KINDS if other != kind]
    known = {**dict(zip(others, factors, strict=True)), kind: gradient}
    made: list[Tensor | None] = []
    for wanted, is_needed in zip(others, needed, strict=True):
        a, b = (known[other] for other in KINDS if other != wanted)
        made.append(solve(wanted, a, b) if is_needed else None)
    return made


class _Product(torch.autograd.Function):
    """:meth:`GroupStructure.solve`; its gradients are again such products."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, structure: GroupStructure, kind: Kind) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.structure, ctx.kind = structure, kind
        return structure.solve(kind, a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        def solve(kind: Kind, a: Tensor, b: Tensor) -> Tensor:
            made: Tensor = _Product.apply(a, b, ctx.structure, kind)
            return made

        needed = ctx.needs_input_grad[:2]
        return (*_differentiate(ctx.kind, ctx.saved_tensors, gradients[0], needed, solve), None, None)


@torch.library.custom_op("psn_lightning::group_product", mutates_args=())
def _operator(kind: str, a: Tensor, b: Tensor, number: int, n_pairs: int) -> Tensor:
    """:meth:`GroupStructure.solve` of a numbered structure; ``n_pairs`` is for the shapes of compiled graphs."""
    return find_structure(number).solve(kind, a, b)  # type: ignore[arg-type]


@_operator.register_fake
def _(kind: str, a: Tensor, b: Tensor, number: int, n_pairs: int) -> Tensor:
    structure = find_structure(number)
    shapes = {
        "w": (n_pairs, structure.size),
        "x": (structure.n_in, b.shape[1]),
        "y": (structure.n_groups * structure.size, b.shape[1]),
    }
    return a.new_empty(shapes[kind])


def _keep_factors(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.kind, a, b, ctx.number, ctx.n_pairs = inputs
    ctx.save_for_backward(a, b)


def _differentiate_operator(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    def solve(kind: Kind, a: Tensor, b: Tensor) -> Tensor:
        made: Tensor = _operator(kind, a, b, ctx.number, ctx.n_pairs)
        return made

    needed = ctx.needs_input_grad[1:3]
    return (None, *_differentiate(ctx.kind, ctx.saved_tensors, gradient, needed, solve), None, None)


_operator.register_autograd(_differentiate_operator, setup_context=_keep_factors)
