"""Every number the program reports about a mask is computed here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.fan_in import FloatArray, coefficient_of_variation


@dataclass(frozen=True)
class LayerStatistics:
    """Figures of one layer's connectivity."""

    n_in: int
    n_out: int
    connections: int
    sparsity: float
    """Share of absent connections."""
    fan_in_mean: float
    fan_in_min: int
    fan_in_max: int
    fan_in_ccv: float
    fan_in_gini: float
    dead_neurons: int
    """Neurons without inputs."""
    fan_out_min: int
    fan_out_max: int
    fan_out_std: float
    dead_inputs: int
    """Inputs that feed no neuron."""


def summarize(connectivity: Connectivity) -> LayerStatistics:
    """All figures of one layer."""
    fan_in, fan_out = connectivity.fan_in, connectivity.fan_out
    return LayerStatistics(
        n_in=connectivity.n_in,
        n_out=connectivity.n_out,
        connections=connectivity.n_connections,
        sparsity=realised_sparsity([connectivity]),
        fan_in_mean=float(fan_in.mean()),
        fan_in_min=int(fan_in.min()),
        fan_in_max=int(fan_in.max()),
        fan_in_ccv=fan_in_ccv(connectivity),
        fan_in_gini=gini(fan_in),
        dead_neurons=int((fan_in == 0).sum()),
        fan_out_min=int(fan_out.min()),
        fan_out_max=int(fan_out.max()),
        fan_out_std=float(fan_out.std()),
        dead_inputs=int((fan_out == 0).sum()),
    )


def realised_sparsity(layers: Iterable[Connectivity]) -> float:
    """Share of absent connections over all the layers together (section 2.9)."""
    layers = list(layers)
    return 1 - sum(c.n_connections for c in layers) / sum(c.n_in * c.n_out for c in layers)


def fan_in_ccv(connectivity: Connectivity) -> float:
    """Coefficient of variation of the fan-in; 0 for an empty layer."""
    return coefficient_of_variation(connectivity.fan_in)


def mean_fan_in_ccv(layers: Mapping[str, Connectivity]) -> float:
    """Mean over the hidden layers of their fan-in CCV."""
    return float(np.mean([fan_in_ccv(connectivity) for connectivity in layers.values()]))


def gini(fan_in: IntArray) -> float:
    """Gini coefficient of the fan-in: 0 when all are equal, towards 1 when one neuron has everything."""
    total = fan_in.sum()
    if total == 0:
        return 0.0
    rank = np.arange(1, fan_in.size + 1)
    return float(2 * (rank * np.sort(fan_in)).sum() / (fan_in.size * total) - (fan_in.size + 1) / fan_in.size)


def overlap(a: Connectivity, b: Connectivity) -> float:
    """Share of the smaller mask's connections that the other has too (overlap coefficient).

    Raises:
        ValueError: If the shapes differ.
    """
    if (a.n_in, a.n_out) != (b.n_in, b.n_out):
        raise ValueError(f"masks of shape {(a.n_out, a.n_in)} and {(b.n_out, b.n_in)} cannot be compared")
    smaller = min(a.n_connections, b.n_connections)
    if smaller == 0:
        return float(a.n_connections == b.n_connections)
    return np.intersect1d(a.keys(), b.keys(), assume_unique=True).size / smaller


def hub_order(fan_in: IntArray) -> tuple[IntArray, IntArray]:
    """Hubs and specialists: the neurons ranked by fan-in, split at the median, ties broken by index.

    Returns:
        Indices of the upper half (hubs, largest first) and of the lower half (specialists).
    """
    order = np.argsort(-fan_in, kind="stable").astype(np.int64)
    return order[: fan_in.size // 2], order[fan_in.size // 2 :]


def gradient_ratio(magnitude_sum: NDArray[np.floating], connectivity: Connectivity) -> tuple[float, float]:
    """Gradient concentration at hubs (section 2.9), in two definitions.

    Args:
        magnitude_sum: Σ |gradient| over the active connections of each neuron, shape ``(n_out,)``.
        connectivity: The layer's connectivity.

    Returns:
        ``(ratio, ratio_active)``: mean over the hubs of the neurons' mean |gradient|, divided by the same
        of the specialists. ``ratio`` takes each neuron's mean over all n_in positions of the masked
        gradient (the paper's), ``ratio_active`` over its active connections only. NaN where the
        specialists have no gradient at all.
    """
    fan_in = connectivity.fan_in
    hubs, specialists = hub_order(fan_in)
    total = magnitude_sum.astype(np.float64)
    active = np.divide(total, fan_in, out=np.full(fan_in.size, np.nan), where=fan_in > 0)
    return _ratio(total[hubs], total[specialists]), _ratio(active[hubs], active[specialists])


def _ratio(hubs: FloatArray, specialists: FloatArray) -> float:
    """Ratio of the means over the neurons that have a value."""
    above, below = hubs[~np.isnan(hubs)], specialists[~np.isnan(specialists)]
    if above.size == 0 or below.size == 0 or below.mean() == 0:
        return float("nan")
    return float(above.mean() / below.mean())
