"""Allocation: from the sparsity of the network to the density of each hidden layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, prod
from typing import Literal, get_args

from psn_lightning.errors import SettingError, UnreachableError

AllocationName = Literal["uniform", "er", "erk"]
Shape = tuple[int, ...]


def allocate(
    shapes: Sequence[Shape], sparsity: float, allocation: AllocationName = "uniform", dense: Sequence[Shape] = ()
) -> list[float]:
    """Share the network's connections out over its layers.

    ``er`` makes the density of a layer proportional to (n_in + n_out) / (n_in · n_out) (Mocanu et al.,
    2018), ``erk`` to the same with the kernel's sides included (Evci et al., 2020); for linear layers the
    two are one. A layer whose density would pass 1 becomes dense and the others are solved again.

    Args:
        shapes: Weight shape of each layer, ``(n_out, n_in, *kernel)``.
        sparsity: Share of absent connections over ``shapes`` and ``dense`` together, in [0, 1).
        allocation: ``uniform``, ``er`` or ``erk``.
        dense: Shapes that stay dense and are paid for from the same budget (RigL's original counts the
            output layer in; by default it is left out).

    Returns:
        Density of each layer of ``shapes``, in (0, 1]; the connections add up to the budget exactly.

    Raises:
        SettingError: If the allocation is unknown, or the dense layers alone pass the budget.
    """
    if allocation not in get_args(AllocationName):
        raise SettingError(f"allocation {allocation!r} is not one of {', '.join(get_args(AllocationName))}")
    sizes = [prod(shape) for shape in shapes]
    fixed = sum(prod(shape) for shape in dense)
    budget = (1 - sparsity) * (sum(sizes) + fixed) - fixed
    if budget <= 0:
        raise UnreachableError(
            f"sparsity {sparsity:g} leaves nothing for the hidden layers: the dense output layer alone has "
            f"{fixed} connections; use a lower sparsity, or budget: hidden"
        )
    scores = [1.0 if allocation == "uniform" else _er_score(shape, allocation == "erk") for shape in shapes]
    return _fill(sizes, scores, budget)


def allocate_exactly(shapes: Sequence[Shape], sparsity: float, allocation: AllocationName = "uniform") -> list[int]:
    """:func:`allocate` in whole connections, whose sum is ``round((1 - sparsity) * positions)`` exactly.

    Args:
        shapes: Weight shape of each layer, ``(n_out, n_in, *kernel)``.
        sparsity: Share of absent connections over all shapes together, in [0, 1).
        allocation: ``uniform``, ``er`` or ``erk``.

    Returns:
        Number of connections of each layer of ``shapes``.

    Raises:
        SettingError: If the allocation is unknown.
    """
    sizes = [prod(shape) for shape in shapes]
    shares = [density * size for density, size in zip(allocate(shapes, sparsity, allocation), sizes, strict=True)]
    counts = [min(size, floor(share)) for share, size in zip(shares, sizes, strict=True)]
    missing = round((1 - sparsity) * sum(sizes)) - sum(counts)
    by_remainder = sorted(range(len(counts)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[:missing]:
        counts[i] += 1
    return counts


def _er_score(shape: Shape, with_kernel: bool) -> float:
    counted = shape if with_kernel else shape[:2]
    return sum(counted) / prod(counted)


def _fill(sizes: Sequence[int], scores: Sequence[float], budget: float) -> list[float]:
    """Density = ε · score, at most 1, with Σ density · size = budget."""
    densities = [1.0] * len(sizes)
    open_layers = list(range(len(sizes)))
    while open_layers:
        spent = sum(size for i, size in enumerate(sizes) if i not in open_layers)
        epsilon = (budget - spent) / sum(scores[i] * sizes[i] for i in open_layers)
        overfull = [i for i in open_layers if epsilon * scores[i] > 1]
        if not overfull:
            for i in open_layers:
                densities[i] = epsilon * scores[i]
            break
        open_layers = [i for i in open_layers if i not in overfull]
    return densities
