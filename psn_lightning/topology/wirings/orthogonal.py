"""Exact orthogonal initialisation (Nowak et al., 2024, arXiv 2406.01755): mask and weights of an orthogonal matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.fan_in import FloatArray, LayerBudget
from psn_lightning.topology.wiring import Wired, Wiring


@dataclass(frozen=True)
class Orthogonal(Wiring):
    """Exact orthogonal initialisation (EOI): W Wᵀ = gain² I, or Wᵀ W where there are more neurons than inputs.

    Random Givens rotations of pairs of columns fill an identity; where the next one would exceed the number of
    connections, the missing ones are active with weight 0: first those of neurons below the minimum fan-in, then any.
    So mask, number of connections and orthogonality are all exact.

    Args:
        gain: Every singular value of the matrix. √2 keeps the variance of He's initialisation under ReLU; 1 is for
            tanh and for linear layers.

    Raises:
        SettingError: If the gain is not a positive number.
    """

    gain: float = 2**0.5

    def __post_init__(self) -> None:
        if not 0 < self.gain < np.inf:
            raise SettingError(f"gain {self.gain} of Orthogonal must be a positive number")

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Wired:
        """Connect a layer and give its weights; the number of connections is exact."""
        weight, mask = _rotate(budget, rng)
        _activate_missing(mask, budget, rng)
        return Wired(Connectivity.from_mask(mask), self.gain * weight[mask])


def _rotate(budget: LayerBudget, rng: np.random.Generator) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Fill an identity by rotations while the connections and those that neurons lack fit into the budget.

    Returns:
        Matrix and mask, shape ``(n_out, n_in)``.
    """
    # One row per column of the paper's wide matrix: the inputs of a wide layer, the neurons of a tall one.
    is_tall = budget.n_out > budget.n_in
    n_pairs, n_short = max(budget.n_in, budget.n_out), min(budget.n_in, budget.n_out)
    columns = np.eye(n_pairs, n_short)
    active = columns != 0
    fan_in = active.sum(axis=1 if is_tall else 0)
    while int(fan_in.sum()) < budget.n_reachable:
        p = int(rng.integers(n_pairs))
        q = (p + 1 + int(rng.integers(n_pairs - 1))) % n_pairs
        union, after = active[p] | active[q], fan_in.copy()
        if is_tall:
            after[[p, q]] = union.sum()
        else:
            after += active[p] ^ active[q]
        if np.maximum(after, budget.min_fan_in).sum() > budget.n_reachable:
            break
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        columns[p], columns[q] = cos * columns[p] - sin * columns[q], sin * columns[p] + cos * columns[q]
        active[p] = active[q] = union
        fan_in = after
    return (columns, active) if is_tall else (columns.T, active.T)


def _activate_missing(mask: NDArray[np.bool_], budget: LayerBudget, rng: np.random.Generator) -> None:
    """Activate positions until every neuron has its minimum fan-in and the number of connections is exact."""
    for neuron in np.flatnonzero(mask.sum(axis=1) < budget.min_fan_in).tolist():
        free = np.flatnonzero(~mask[neuron])
        lacking = budget.min_fan_in - int(mask[neuron].sum())
        mask[neuron, rng.choice(free, size=lacking, replace=False)] = True
    free = np.flatnonzero(~mask.ravel())
    mask.flat[rng.choice(free, size=budget.n_reachable - int(mask.sum()), replace=False)] = True
