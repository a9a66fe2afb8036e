"""Initial weights of a sparse layer (section 2.5, Eq. 9)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError
from psn_lightning.topology import Connectivity

InitName = Literal["mean_fan_in", "per_neuron"]


def initial_values(connectivity: Connectivity, init: InitName, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw He-initialised weights for the active connections only, the same for every storage.

    Args:
        connectivity: Who feeds whom.
        init: ``mean_fan_in``: W ~ N(0, 2 / mean fan-in of the layer), Eq. 9; ``per_neuron``: N(0, 2 / k_i).
        rng: Source of randomness.

    Returns:
        Weights in CSR order, shape ``(n_connections,)``.

    Raises:
        SettingError: If ``init`` is neither.
    """
    if init not in get_args(InitName):
        raise SettingError(f"init {init!r} is not one of {', '.join(get_args(InitName))}")
    values = rng.standard_normal(connectivity.n_connections)
    fan_in = connectivity.fan_in
    if init == "mean_fan_in":
        return values * np.sqrt(2 / max(fan_in.mean(), 1e-12))
    return values * np.repeat(np.sqrt(2 / np.maximum(fan_in, 1)), fan_in)
