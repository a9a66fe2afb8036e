"""Initial weights of a sparse layer (arXiv 2604.10560, section 2.5, Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from psn_lightning.errors import SettingError
from psn_lightning.nn.isometry import isometric_values
from psn_lightning.topology import Connectivity, Wired

InitName = Literal["mean_fan_in", "per_neuron", "linear", "isometry"]
"""Name of an initialisation of active weights, see :func:`~psn_lightning.nn.init.initial_values`."""

DEFAULT_INIT: InitName = "mean_fan_in"


def initial_values(connectivity: Connectivity, init: InitName, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw weights of the active connections; equal for every storage.

    Args:
        connectivity: Connections of the layer.
        init: Distribution of the weights. ``mean_fan_in``: normal, variance 2 / mean fan-in of the layer (Eq. 9);
            ``per_neuron``: normal, variance 2 / fan-in of the neuron; ``linear``: that of ``nn.Linear``, uniform within
            ±1/√n_in, as if no connection were absent: at density d, √(d/6) times the scale of Eq. 9; ``isometry``: as
            near to an orthogonal matrix times √2 as the connections allow, see
            :func:`~psn_lightning.nn.isometry.isometric_values`.
        rng: Random generator.

    Returns:
        Weights in CSR order, shape ``(n_connections,)``.

    Raises:
        SettingError: If ``init`` is unknown.
    """
    if init not in get_args(InitName):
        raise SettingError(f"init {init!r} is not one of {', '.join(get_args(InitName))}")
    if init == "isometry":
        return isometric_values(connectivity, rng)
    fan_in = connectivity.fan_in
    if init == "linear":
        reach = 1 / np.sqrt(connectivity.n_in)
        return rng.uniform(-reach, reach, connectivity.n_connections)
    reference = np.full(fan_in.size, fan_in.mean()) if init == "mean_fan_in" else fan_in
    std: NDArray[np.float64] = np.sqrt(2 / np.maximum(reference, np.finfo(np.float64).tiny))
    return rng.standard_normal(connectivity.n_connections) * np.repeat(std, fan_in)


def check_init(init: InitName, layers: Sequence[Wired]) -> None:
    """Check that an initialisation, which is not the default, has an effect on one of the layers.

    Raises:
        SettingError: If the wirings of all layers bring weights.
    """
    if layers and all(layer.values is not None for layer in layers):
        raise SettingError(
            f"init {init} has no effect: the wiring brings the weights of every sparse layer. Leave init at its "
            "default, or use a wiring without weights"
        )
