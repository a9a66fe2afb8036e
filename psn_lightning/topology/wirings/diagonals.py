"""Wrapped diagonals (DynaDiag: Tyagi et al., ICML 2025, arXiv 2506.11449), without the learning of which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.distributions import Uniform
from psn_lightning.topology.fan_in import LayerBudget
from psn_lightning.topology.scaling import draw_exactly
from psn_lightning.topology.wiring import Wiring

OffsetsName = Literal["random", "even"]


@dataclass(frozen=True)
class Diagonals(Wiring):
    """Sum of wrapped diagonals: neuron j reads the inputs j + o modulo n_in, for the same offsets o everywhere.

    The fan-in is constant, and the fan-out as well where n_in divides n_out. Where the budget is not a whole number of
    diagonals, some neurons, evenly spaced, read one input more.

    Args:
        offsets: Choice of the diagonals: ``random``, or ``even`` for equal distances.

    Raises:
        SettingError: If the choice is unknown.
    """

    offsets: OffsetsName = "random"

    def __post_init__(self) -> None:
        if self.offsets not in get_args(OffsetsName):
            raise SettingError(
                f"offsets {self.offsets!r} of Diagonals is not one of {', '.join(get_args(OffsetsName))}"
            )

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer; the number of connections is exact."""
        fan_in, n_in = draw_exactly(Uniform(), budget, rng), budget.n_in
        n_diagonals = int(fan_in.max())
        if self.offsets == "even":
            offsets = np.arange(n_diagonals, dtype=np.int64) * n_in // n_diagonals
        else:
            offsets = rng.choice(n_in, size=n_diagonals, replace=False).astype(np.int64)
        rows = np.repeat(np.arange(fan_in.size, dtype=np.int64), fan_in)
        diagonal = np.arange(rows.size, dtype=np.int64) - np.repeat(np.cumsum(fan_in) - fan_in, fan_in)
        keys = np.sort(rows * n_in + (rows + offsets[diagonal]) % n_in)
        return Connectivity.from_fan_in(n_in, fan_in, keys % n_in)
