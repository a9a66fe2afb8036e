"""Where RigL settles: what the paper claims, what we measured, and what no mask can pass."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from psn_lightning.errors import SettingError
from psn_lightning.topology.fan_in import check_sparsity

EquilibriumTable = Mapping[str, Mapping[float, float]]

PAPER_TABLE_4: EquilibriumTable = MappingProxyType(
    {
        "mnist": {0.80: 1.62, 0.90: 2.43, 0.95: 3.48, 0.98: 5.49},
        "fashion": {0.80: 1.68, 0.90: 2.52, 0.95: 3.61, 0.98: 5.71},
        "emnist": {0.80: 1.68, 0.90: 2.53, 0.95: 3.64, 0.98: 5.69},
        "forest": {0.80: 1.26, 0.90: 2.10, 0.95: 3.17, 0.98: 5.13},
    }
)
"""Fan-in CCV at RigL's equilibrium as the paper prints it (Table 4): a claim, not our measurement."""

MEASURED: EquilibriumTable = MappingProxyType({})
"""Fan-in CCV at RigL's equilibrium as this program measured it; empty until a study has been run."""


def two_level_bound(sparsity: float) -> float:
    """Largest fan-in CCV that any mask of this sparsity can have, sqrt(s / (1 - s)).

    Reached when a share 1 - s of the neurons holds every connection.

    Raises:
        SettingError: If the sparsity is not in [0, 1).
    """
    check_sparsity(sparsity)
    return float((sparsity / (1 - sparsity)) ** 0.5)


def paper_equilibrium(dataset: str, sparsity: float) -> float:
    """The paper's equilibrium CCV (Table 4).

    Args:
        dataset: ``mnist``, ``fashion``, ``emnist`` or ``forest``.
        sparsity: 0.80, 0.90, 0.95 or 0.98.

    Raises:
        SettingError: If the table has no such entry; nothing is interpolated.
    """
    return _look_up(PAPER_TABLE_4, dataset, sparsity, "the paper's Table 4")


def measured_equilibrium(dataset: str, sparsity: float) -> float:
    """Our measured equilibrium CCV.

    Raises:
        SettingError: If there is no measurement; the message gives the paper's value where it has one.
    """
    return _look_up(MEASURED, dataset, sparsity, "our measurements")


def _look_up(table: EquilibriumTable, dataset: str, sparsity: float, source: str) -> float:
    row = table.get(dataset, {})
    for tabulated, ccv in row.items():
        if abs(tabulated - sparsity) < 1e-6:
            return ccv
    known = ", ".join(f"{name} at {s:g}" for name, entries in table.items() for s in entries)
    message = f"no equilibrium CCV for {dataset} at sparsity {sparsity:g} in {source} ({known or 'none yet'})"
    paper = PAPER_TABLE_4.get(dataset, {}).get(round(sparsity, 6))
    if table is not PAPER_TABLE_4 and paper is not None:
        message += f"; the paper claims {paper:g}: give that ccv yourself to use it"
    raise SettingError(message)
