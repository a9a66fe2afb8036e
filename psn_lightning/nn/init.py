"""Initial weights of a sparse layer (arXiv 2604.10560, section 2.5, Eq. 9)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError
from psn_lightning.topology import Connectivity

InitName = Literal["mean_fan_in", "per_neuron"]


def initial_values(connectivity: Connectivity, init: InitName, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw He-initialised weights of the active connections; equal for every storage.

    Args:
        connectivity: Connections of the layer.
        init: Variance of the weights: ``mean_fan_in``: 2 / mean fan-in of the layer (Eq. 9); ``per_neuron``: 2 / fan-in
            of the neuron.
        rng: Random generator.

    Returns:
        Weights in CSR order, shape ``(n_connections,)``.

    Raises:
        SettingError: If ``init`` is unknown.
    """
    if init not in get_args(InitName):
        raise SettingError(f"init {init!r} is not one of {', '.join(get_args(InitName))}")
    fan_in = connectivity.fan_in
    reference = np.full(fan_in.size, fan_in.mean()) if init == "mean_fan_in" else fan_in
    std: NDArray[np.float64] = np.sqrt(2 / np.maximum(reference, np.finfo(np.float64).tiny))
    return rng.standard_normal(connectivity.n_connections) * np.repeat(std, fan_in)
