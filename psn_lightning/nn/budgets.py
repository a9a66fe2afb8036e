"""Settings, budgets and connections of the layers that become sparse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.nn.storages import StorageName, check_storage
from psn_lightning.nn.weights import Weight
from psn_lightning.topology import (
    AllocationName,
    FanIn,
    LayerBudget,
    Wired,
    Wiring,
    allocate_exactly,
    connect_layer,
)


@dataclass(frozen=True)
class LayerSettings:
    """Settings of the layers that a glob pattern matches; None takes the value given for all layers.

    Args:
        sparsity: Sparsity of each of these layers, in [0, 1); the layers then have no part in the budget of the others.
        topology: Family of the fan-in, or wiring.
        storage: Storage of the weights.
    """

    sparsity: float | None = None
    topology: FanIn | Wiring | None = None
    storage: StorageName | None = None


def resolve_settings(
    weights: Sequence[Weight], overrides: Mapping[str, LayerSettings], default: LayerSettings
) -> list[LayerSettings]:
    """Resolve the settings of each layer: overrides, then defaults."""
    for pattern in overrides:
        if not any(fnmatchcase(weight.name, pattern) for weight in weights):
            names = ", ".join(weight.name for weight in weights)
            raise SettingError(f"overrides pattern {pattern!r} matches none of the selected layers: {names}")
    matched = [next((s for p, s in overrides.items() if fnmatchcase(w.name, p)), LayerSettings()) for w in weights]
    for settings in matched:
        check_storage(settings.storage or default.storage)
    return [LayerSettings(s.sparsity, s.topology or default.topology, s.storage or default.storage) for s in matched]


def make_budgets(
    weights: Sequence[Weight],
    settings: Sequence[LayerSettings],
    sparsity: float,
    allocation: AllocationName,
    min_fan_in: int,
) -> list[LayerBudget]:
    """Allocate connections to the layers; layers without a sparsity of their own share one budget."""
    shared = [w for w, s in zip(weights, settings, strict=True) if s.sparsity is None]
    counts = iter(allocate_exactly([tuple(w.tensor.shape) for w in shared], sparsity, allocation) if shared else ())
    budgets = []
    for weight, own in zip(weights, settings, strict=True):
        n_out, n_in = weight.shape
        absent = 1 - next(counts) / (n_out * n_in) if own.sparsity is None else own.sparsity
        if absent == 1:
            raise UnreachableError(
                f"sparsity {sparsity} leaves no connection in {weight.name} ({n_out} × {n_in}): exclude the layer or "
                "use allocation erk"
            )
        budgets.append(LayerBudget(n_in, n_out, absent, min_fan_in, weight.name))
    return budgets


def connect_layers(
    wirings: Sequence[Wiring], budgets: Sequence[LayerBudget], streams: Sequence[np.random.Generator]
) -> list[Wired]:
    """Connect each layer.

    Raises:
        UnreachableError: If a family or wiring cannot connect a layer; the message lists these layers.
    """
    layers, wrong = [], []
    for wiring, budget, rng in zip(wirings, budgets, streams, strict=True):
        try:
            layers.append(connect_layer(wiring, budget, rng))
        except UnreachableError as error:
            wrong.append(str(error))
    if wrong:
        raise UnreachableError(
            f"{'; '.join(wrong[:3])}{f'; and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Exclude these layers, "
            "override their settings, or use allocation uniform"
        )
    return layers
