"""Allocation: density of each hidden layer, given the sparsity of the network."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, prod
from typing import Literal, get_args

from psn_lightning.errors import SettingError, UnreachableError

AllocationName = Literal["uniform", "er", "erk"]
"""Name of a rule that allots densities to layers."""
Shape = tuple[int, ...]


def allocate(
    shapes: Sequence[Shape], sparsity: float, allocation: AllocationName = "uniform", dense: Sequence[Shape] = ()
) -> list[float]:
    """Distribute the connections of a network over its layers.

    ``uniform`` gives all layers the same density. ``er`` makes the density of a layer proportional to
    (n_in + n_out) / (n_in · n_out) (Mocanu et al., 2018); ``erk`` includes the sides of the kernel (Evci et al., 2020)
    and equals ``er`` for linear layers. A layer whose density would exceed 1 is made dense, and the others are solved
    again.

    Args:
        shapes: Weight shape of each layer, ``(n_out, n_in, *kernel)``.
        sparsity: Fraction of absent connections over ``shapes`` and ``dense`` together, in [0, 1).
        allocation: ``uniform``, ``er`` or ``erk``.
        dense: Weight shapes of layers that stay dense but count towards the sparsity, as the output layer does in
            RigL's original code.

    Returns:
        Density of each layer of ``shapes``, in (0, 1]. The connections add up to the budget exactly.

    Raises:
        SettingError: If the allocation is unknown.
        UnreachableError: If the dense layers alone exceed the budget.
    """
    if allocation not in get_args(AllocationName):
        raise SettingError(f"allocation {allocation!r} is not one of {', '.join(get_args(AllocationName))}")
    sizes = [prod(shape) for shape in shapes]
    fixed = sum(prod(shape) for shape in dense)
    budget = (1 - sparsity) * (sum(sizes) + fixed) - fixed
    if budget <= 0:
        raise UnreachableError(
            f"sparsity {sparsity:g} leaves no connections for the hidden layers: the dense output layer alone has "
            f"{fixed} connections; use a lower sparsity, or budget: hidden"
        )
    scores = [1.0 if allocation == "uniform" else _compute_score(shape, allocation == "erk") for shape in shapes]
    return _solve_densities(sizes, scores, budget)


def allocate_exactly(shapes: Sequence[Shape], sparsity: float, allocation: AllocationName = "uniform") -> list[int]:
    """Distribute whole connections over the layers, as :func:`allocate` does with densities.

    The counts are rounded by largest remainder.

    Args:
        shapes: Weight shape of each layer, ``(n_out, n_in, *kernel)``.
        sparsity: Fraction of absent connections over all layers together, in [0, 1).
        allocation: ``uniform``, ``er`` or ``erk``.

    Returns:
        Number of connections of each layer; the sum is ``round((1 - sparsity) * n_weights)`` exactly.

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


def _compute_score(shape: Shape, with_kernel: bool) -> float:
    counted = shape if with_kernel else shape[:2]
    return sum(counted) / prod(counted)


def _solve_densities(sizes: Sequence[int], scores: Sequence[float], budget: float) -> list[float]:
    """Solve density = min(1, ε · score) for the ε at which Σ density · size = budget."""
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
