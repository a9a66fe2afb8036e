"""Equilibrium CCV of RigL: the paper's table, measured values, a law, an upper bound, and a convergence criterion."""

from __future__ import annotations

import math
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
"""Fan-in CCV at RigL's equilibrium as printed in the paper (Table 4), not measured with this package."""

MEASURED: EquilibriumTable = MappingProxyType(
    {
        "fashion": {0.80: 0.34, 0.90: 0.38, 0.95: 0.47, 0.98: 0.64},
        "mnist": {0.80: 0.27, 0.90: 0.33, 0.95: 0.43, 0.98: 0.60},
    }
)
"""Final fan-in CCV of canonical RigL from ERK masks, mean over the layers (docs/equilibrium.md).

It depends on the initial masks: from lognormal masks of CCV 1 it stays higher. A test compares it with
results/runs.jsonl.
"""

LAW_FACTOR = 0.192
"""Factor κ of :func:`law`."""

LAW_EXPONENTS = (0.655, -0.252)
"""Exponents of :func:`law`: of the two-level bound, and of the scale of the first weights."""

LAW_ERROR = 1.30
"""Typical factor between the law and a layer of a network that it was not fitted to (rms of the logarithm)."""


def two_level_bound(sparsity: float) -> float:
    """Largest fan-in CCV of any mask of this sparsity, sqrt(s / (1 - s)).

    It is reached if a fraction 1 - s of the neurons is dense and the other neurons have no inputs.

    Args:
        sparsity: Fraction of absent connections s, in [0, 1).

    Raises:
        SettingError: If the sparsity is not in [0, 1).
    """
    check_sparsity(sparsity)
    return float((sparsity / (1 - sparsity)) ** 0.5)


def law(sparsity: float, weight_scale: float = 1.0) -> float:
    """Final fan-in CCV of canonical RigL in a layer, by a law fitted to measurements.

    κ √(s/(1−s))^p σ^a, at most the two-level bound, with :data:`LAW_FACTOR` and :data:`LAW_EXPONENTS`; the error is a
    factor of :data:`LAW_ERROR`. Adding the number of inputs or neurons, the drop fraction or the period predicted other
    networks no better. It was fitted to unstructured initial masks, layers of 54 to 2048 inputs, sparsities up to
    0.98, and scales of the first weights from nn.Linear's to twice that of Eq. 9 (docs/equilibrium.md).

    Args:
        sparsity: Fraction of absent connections s, in [0, 1).
        weight_scale: Standard deviation σ of the first weights, relative to that of ``init: mean_fan_in`` (Eq. 9);
            √((1−s)/6) for ``init: linear``.

    Raises:
        SettingError: If the sparsity is not in [0, 1), or the scale is not above 0.
    """
    if not weight_scale > 0:
        raise SettingError(f"weight_scale must be above 0, not {weight_scale}")
    bound = two_level_bound(sparsity)
    of_bound, of_scale = LAW_EXPONENTS
    return min(LAW_FACTOR * math.pow(bound, of_bound) * math.pow(weight_scale, of_scale), bound)


def equilibrium(table: TableName, dataset: str, sparsity: float) -> float:
    """Fan-in CCV at RigL's equilibrium.

    Args:
        table: ``paper`` (Table 4) or ``measured`` (:data:`MEASURED`, and :func:`law` where it has no entry).
        dataset: ``mnist``, ``fashion``, ``emnist`` or ``forest``.
        sparsity: Fraction of absent connections; 0.80, 0.90, 0.95 or 0.98 for the paper's table, which is not
            interpolated.

    Raises:
        SettingError: If the table or the data set is unknown, or the paper's table has no entry for the sparsity.
    """
    if table not in get_args(TableName):
        raise SettingError(f"table {table!r} is not one of {', '.join(get_args(TableName))}")
    if dataset not in PAPER_TABLE_4:
        raise SettingError(f"dataset {dataset!r} is not one of {', '.join(PAPER_TABLE_4)}")
    row = (PAPER_TABLE_4 if table == "paper" else MEASURED).get(dataset, {})
    for tabulated, ccv in row.items():
        if abs(tabulated - sparsity) < 1e-6:
            return ccv
    if table == "measured":
        return law(sparsity)
    raise SettingError(
        f"sparsity {sparsity:g} of {dataset} is not in the paper's Table 4, which has "
        f"{', '.join(f'{s:g}' for s in row)}: use table measured, whose law holds for any sparsity"
    )


TURNOVER = 1.0
"""Turnover after which a constant CCV counts as rest: candidates for replacement, as a fraction of the connections."""

TOLERANCE = 0.05
"""Largest range of the CCV at rest, relative to its mean."""


@dataclass
class Trajectory:
    """Fan-in CCV of a layer over the topology updates of a run."""

    steps: list[int] = field(default_factory=list)
    """Optimizer step of each update."""
    ccv: list[float] = field(default_factory=list)
    """Fan-in CCV after each update."""
    contested: list[float] = field(default_factory=list)
    """Fraction of the connections that were candidates for replacement in each update."""

    def add(self, step: int, ccv: float, contested: float) -> None:
        """Append an update.

        Args:
            step: Optimizer step.
            ccv: Fan-in CCV after the update.
            contested: Fraction of the connections that were candidates for replacement.
        """
        self.steps.append(step)
        self.ccv.append(ccv)
        self.contested.append(contested)


@dataclass(frozen=True)
class Settlement:
    """Final CCV of a trajectory, and whether it has converged."""

    ccv: float
    """Mean CCV over the last updates, see :func:`settlement`."""
    drift: float
    """Largest minus smallest CCV over the last updates, relative to the mean."""
    first: int
    """Index of the first of the last updates."""
    converged: bool
    """Whether the last updates have the turnover and the drift is within the tolerance."""


def settlement(trajectory: Trajectory) -> Settlement:
    """Decide whether the CCV of a trajectory has converged.

    A schedule that fades out freezes any CCV, which is not an equilibrium. Convergence is therefore measured in
    turnover, not in time: it is decided over the smallest number of last updates whose candidates for replacement add
    up to :data:`TURNOVER` of the layer's connections. The CCV may vary by :data:`TOLERANCE` over them.

    Args:
        trajectory: Trajectory of at least one update.
    """
    turnover = accumulate(reversed(trajectory.contested))
    enough = next((n for n, share in enumerate(turnover, start=1) if share >= TURNOVER), None)
    ccv = trajectory.ccv
    tail = np.asarray(ccv[-enough:] if enough else ccv)
    mean = float(tail.mean())
    drift = float(np.ptp(tail)) / mean if mean > 0 else 0.0
    return Settlement(mean, drift, len(ccv) - len(tail), enough is not None and drift <= TOLERANCE)
