"""Statistics of masks. All figures that the package reports about a mask are computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.fan_in import FloatArray
from psn_lightning.topology.scaling import coefficient_of_variation

_AT_ONCE = 2**22  # connections that are looked up at once


@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of the connectivity of a layer."""

    n_in: int
    n_out: int
    connections: int
    sparsity: float
    """Realised fraction of absent connections."""
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
    """Compute the statistics of a layer."""
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


@dataclass(frozen=True)
class GroupStatistics:
    """Statistics of groups of neurons that share their inputs."""

    groups: int
    size: int
    """Number of neurons of a group."""
    distinct_inputs: int
    """Inputs that at least one group reads."""
    overlap: float
    """Share of a group's inputs that another group reads, mean over all pairs of groups; NaN for a single group."""


def summarize_groups(connectivity: Connectivity) -> GroupStatistics | None:
    """Compute what sharing inputs does to a layer; None for a layer without groups."""
    if connectivity.groups is None:
        return None
    grid = connectivity.grid()
    readers, fan_in = grid.fan_out, grid.fan_in
    others = np.bincount(grid.rows(), weights=readers[grid.indices] - 1, minlength=grid.n_out)
    shared = np.divide(others, fan_in, out=np.zeros(grid.n_out), where=fan_in > 0)
    overlap = float(shared.sum() / (grid.n_out * (grid.n_out - 1))) if grid.n_out > 1 else float("nan")
    return GroupStatistics(grid.n_out, connectivity.group_size, int((readers > 0).sum()), overlap)


def realised_sparsity(layers: Iterable[Connectivity]) -> float:
    """Fraction of absent connections over all layers together (section 2.9)."""
    layers = list(layers)
    return 1 - sum(c.n_connections for c in layers) / sum(c.n_in * c.n_out for c in layers)


def fan_in_ccv(connectivity: Connectivity) -> float:
    """CCV of a layer, the coefficient of variation of the fan-in: std / mean; 0 for a layer without connections."""
    return coefficient_of_variation(connectivity.fan_in)


def mean_fan_in_ccv(layers: Mapping[str, Connectivity]) -> float:
    """Mean of the fan-in CCV over the hidden layers."""
    return float(np.mean([fan_in_ccv(connectivity) for connectivity in layers.values()]))


def gini(fan_in: IntArray) -> float:
    """Gini coefficient of the fan-in: 0 if all neurons are equal, near 1 if one neuron has all connections.

    Args:
        fan_in: Fan-in of each neuron, shape ``(n_out,)``.
    """
    total = fan_in.sum()
    if total == 0:
        return 0.0
    rank = np.arange(1, fan_in.size + 1)
    return float(2 * (rank * np.sort(fan_in)).sum() / (fan_in.size * total) - (fan_in.size + 1) / fan_in.size)


def overlap(a: Connectivity, b: Connectivity) -> float:
    """Overlap coefficient: fraction of the smaller mask's connections that the other mask has, too.

    Raises:
        ValueError: If the masks differ in shape.
    """
    if (a.n_in, a.n_out) != (b.n_in, b.n_out):
        raise ValueError(f"masks of shape {(a.n_out, a.n_in)} and {(b.n_out, b.n_in)} have no overlap coefficient")
    smaller = min(a.n_connections, b.n_connections)
    if smaller == 0:
        return float(a.n_connections == b.n_connections)
    mine, others, shared = a.keys(), b.keys(), 0
    for first in range(0, len(others), _AT_ONCE):
        part = others[first : first + _AT_ONCE]
        places = np.minimum(np.searchsorted(mine, part), len(mine) - 1)
        shared += int(np.count_nonzero(mine[places] == part))
    return shared / smaller


def hub_order(fan_in: IntArray) -> tuple[IntArray, IntArray]:
    """Hubs and specialists: neurons ranked by fan-in and split at the median; ties are ranked by index.

    Args:
        fan_in: Fan-in of each neuron, shape ``(n_out,)``.

    Returns:
        Indices of the hubs, the upper half, and of the specialists, the lower half; largest fan-in first.
    """
    order = np.argsort(-fan_in, kind="stable").astype(np.int64)
    return order[: fan_in.size // 2], order[fan_in.size // 2 :]


def gradient_ratio(magnitude_sum: NDArray[np.floating], connectivity: Connectivity) -> tuple[float, float]:
    """Ratio of the mean gradient of the hubs to that of the specialists (section 2.9), in two definitions.

    Args:
        magnitude_sum: Σ |gradient| over the active connections of each neuron, shape ``(n_out,)``.
        connectivity: Connectivity of the layer.

    Returns:
        ``ratio`` and ``ratio_active``. ``ratio``, the paper's, takes the mean |gradient| of a neuron over all ``n_in``
        positions of the masked gradient, ``ratio_active`` over the active connections only. NaN if the gradient of
        the specialists is zero.
    """
    fan_in = connectivity.fan_in
    hubs, specialists = hub_order(fan_in)
    total = magnitude_sum.astype(np.float64)
    active = np.divide(total, fan_in, out=np.full(fan_in.size, np.nan), where=fan_in > 0)
    return _divide_means(total[hubs], total[specialists]), _divide_means(active[hubs], active[specialists])


def _divide_means(hubs: FloatArray, specialists: FloatArray) -> float:
    """Divide the means over the neurons whose value is not NaN."""
    above, below = hubs[~np.isnan(hubs)], specialists[~np.isnan(specialists)]
    if above.size == 0 or below.size == 0 or below.mean() == 0:
        return float("nan")
    return float(above.mean() / below.mean())
