"""Where RigL settles: what the paper claims, what we measured, how we decide, and what no mask can pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.fan_in import check_sparsity

EquilibriumTable = Mapping[str, Mapping[float, float]]
TableName = Literal["paper", "measured"]

PAPER_TABLE_4: EquilibriumTable = MappingProxyType(
    {
        "mnist": {0.80: 1.62, 0.90: 2.43, 0.95: 3.48, 0.98: 5.49},
        "fashion": {0.80: 1.68, 0.90: 2.52, 0.95: 3.61, 0.98: 5.71},
        "emnist": {0.80: 1.68, 0.90: 2.53, 0.95: 3.64, 0.98: 5.69},
        "forest": {0.80: 1.26, 0.90: 2.10, 0.95: 3.17, 0.98: 5.13},
    }
)
"""Fan-in CCV at RigL's equilibrium as the paper prints it (Table 4): a claim, not our measurement."""

MEASURED: EquilibriumTable = MappingProxyType(
    {
        "fashion": {0.80: 0.34, 0.90: 0.38, 0.95: 0.47, 0.98: 0.64},
        "mnist": {0.80: 0.27, 0.90: 0.33, 0.95: 0.43, 0.98: 0.60},
    }
)
"""Fan-in CCV, mean over the layers, at which canonical RigL ends that started from ERK masks (docs/equilibrium.md).

It depends on the start: from lognormal masks of CCV 1 it stays higher. A test holds it against results/runs.jsonl.
"""

LAW_FACTOR = 0.121
"""Our equilibria as a share of the two-level bound, geometric mean over the layers that were measured."""

LAW_ERROR = 1.32
"""By this factor a layer that the law was not fitted to lies above or below it (root mean square of the logarithm)."""


def two_level_bound(sparsity: float) -> float:
    """Largest fan-in CCV that any mask of this sparsity can have, sqrt(s / (1 - s)).

    Reached when a share 1 - s of the neurons holds every connection.

    Raises:
        SettingError: If the sparsity is not in [0, 1).
    """
    check_sparsity(sparsity)
    return float((sparsity / (1 - sparsity)) ** 0.5)


def law(sparsity: float) -> float:
    """Fan-in CCV at which canonical RigL ends in a layer, by the simplest law that our measurements follow.

    It is :data:`LAW_FACTOR` of the two-level bound, within a factor of :data:`LAW_ERROR`. That the layer's inputs or
    neurons, or a free exponent, are let in made predictions of other layers worse. It was fitted to unstructured
    starts, layers of 54 to 2048 inputs, sparsities up to 0.98 (docs/equilibrium.md).

    Raises:
        SettingError: If the sparsity is not in [0, 1).
    """
    return LAW_FACTOR * two_level_bound(sparsity)


def equilibrium(table: TableName, dataset: str, sparsity: float) -> float:
    """The fan-in CCV at which RigL settles.

    Args:
        table: ``paper``: Table 4; ``measured``: our own, and where we have not measured, :func:`law`.
        dataset: ``mnist``, ``fashion``, ``emnist`` or ``forest``.
        sparsity: Of the paper's: 0.80, 0.90, 0.95 or 0.98; of ours: any.

    Raises:
        SettingError: If the table or the data set is unknown, or the paper has no such entry: it is not interpolated.
    """
    if table not in get_args(TableName):
        raise SettingError(f"table {table!r} is not one of {', '.join(get_args(TableName))}")
    if dataset not in PAPER_TABLE_4:
        raise SettingError(f"dataset {dataset!r} of an equilibrium CCV is not one of {', '.join(PAPER_TABLE_4)}")
    row = (PAPER_TABLE_4 if table == "paper" else MEASURED).get(dataset, {})
    for tabulated, ccv in row.items():
        if abs(tabulated - sparsity) < 1e-6:
            return ccv
    if table == "measured":
        return law(sparsity)
    raise SettingError(
        f"no equilibrium CCV for {dataset} at sparsity {sparsity:g} in the paper's Table 4 (it has "
        f"{', '.join(f'{s:g}' for s in row)}): table measured has a law for all others"
    )


TURNOVER = 1.0
"""Share of a layer's connections that must have stood for replacement before a still CCV means anything."""

TOLERANCE = 0.05
"""How far the CCV may move meanwhile, relative to its mean."""


@dataclass
class Trajectory:
    """A layer's fan-in CCV over the topology updates of a run."""

    steps: list[int] = field(default_factory=list)
    """Optimizer step of each update."""
    ccv: list[float] = field(default_factory=list)
    """Fan-in CCV after it."""
    contested: list[float] = field(default_factory=list)
    """Share of the connections that stood for replacement in it."""

    def add(self, step: int, ccv: float, contested: float) -> None:
        """Append an update."""
        self.steps.append(step)
        self.ccv.append(ccv)
        self.contested.append(contested)


@dataclass(frozen=True)
class Settlement:
    """Whether a layer's fan-in CCV has settled, and where."""

    ccv: float
    """Mean over the deciding updates."""
    drift: float
    """Largest minus smallest CCV over them, relative to the mean."""
    first: int
    """Index of the first deciding update."""
    converged: bool


def settlement(trajectory: Trajectory) -> Settlement:
    """Decide whether a trajectory has come to rest.

    A schedule that fades out freezes any CCV; that is no equilibrium. So rest is measured in turnover, not
    in time: the deciding updates are the fewest last ones in which connections amounting to
    :data:`TURNOVER` of the layer stood for replacement, and the CCV may move by :data:`TOLERANCE` over
    them.

    Args:
        trajectory: At least one update.
    """
    turnover = accumulate(reversed(trajectory.contested))
    enough = next((n for n, share in enumerate(turnover, start=1) if share >= TURNOVER), None)
    ccv = trajectory.ccv
    tail = np.asarray(ccv[-enough:] if enough else ccv)
    mean = float(tail.mean())
    drift = float(np.ptp(tail)) / mean if mean > 0 else 0.0
    return Settlement(mean, drift, len(ccv) - len(tail), enough is not None and drift <= TOLERANCE)
