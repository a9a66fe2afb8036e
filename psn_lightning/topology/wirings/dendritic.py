"""Dendritic Network Model (Cerretti et al., 2025): the inputs of a neuron lie in clusters, its dendrites."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import Connectivity, IntArray
from psn_lightning.topology.distributions import Uniform
from psn_lightning.topology.fan_in import FanIn, FloatArray, LayerBudget
from psn_lightning.topology.scaling import draw_exactly
from psn_lightning.topology.wiring import Wiring

SynapsesName = Literal["fixed", "spatial_gaussian", "spatial_inversegaussian"]

_SYNAPSE_STD = 0.1  # of the number of inputs, in the authors' program


@dataclass(frozen=True)
class Dendritic(Wiring):
    """Dendritic Network Model (DNM): every neuron reads one run of successive inputs per dendrite.

    The dendrites lie evenly in a window around the neuron's place on the ring of inputs. Overlapping runs leave inputs
    over, which are drawn from the rest of the window. Names follow the authors' demonstration program, of which this is
    the wrap-around border with a fixed number of dendrites and a fixed width.

    Args:
        dendrites: Number of dendrites M of a neuron, at least 1; a neuron has at most as many as inputs.
        width: Width α of the window, in [0, 1]: 0 is the fan-in itself, a band along the diagonal; 1 is all inputs.
        degree: Family of the fan-in; the program's own kinds are :class:`Uniform` ("fixed"), :class:`GaussianDegree`,
            :class:`UniformDegree` and :class:`SpatialDegree`.
        synapses: Inputs of each dendrite: ``fixed`` (equally many), or drawn: ``spatial_gaussian`` (more near the
            neuron's place) or ``spatial_inversegaussian`` (more far from it).

    Raises:
        SettingError: If an argument is out of range.
    """

    dendrites: int = 3
    width: float = 1.0
    degree: FanIn = field(default_factory=Uniform)
    synapses: SynapsesName = "fixed"

    def __post_init__(self) -> None:
        if self.dendrites < 1:
            raise SettingError(f"dendrites {self.dendrites} of Dendritic must be at least 1")
        if not 0 <= self.width <= 1:
            raise SettingError(f"width {self.width} of Dendritic is not in [0, 1]")
        if self.synapses not in get_args(SynapsesName):
            raise SettingError(
                f"synapses {self.synapses!r} of Dendritic is not one of {', '.join(get_args(SynapsesName))}"
            )

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer; the number of connections is exact.

        Raises:
            UnreachableError: If the degrees cannot be had in this layer.
        """
        fan_in = draw_exactly(self.degree, budget, rng)
        inputs = [self._read(j, k, budget, rng) for j, k in enumerate(fan_in.tolist())]
        return Connectivity.from_fan_in(budget.n_in, fan_in, np.concatenate(inputs))

    def _read(self, neuron: int, fan_in: int, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Choose the inputs of one neuron, in ascending order."""
        n_in = budget.n_in
        window = int(np.clip(round(fan_in + self.width * (n_in - fan_in)), fan_in, n_in))
        # Offsets within the window, whose middle is the neuron's place: the ring needs no further thought.
        place = window // 2
        dendrites = max(1, min(self.dendrites, budget.n_reachable // budget.n_out, fan_in))
        middle = (1 - self.width) * place + self.width * (np.arange(dendrites) + 0.5) * window / dendrites
        sizes = self._share_out(fan_in, np.abs(middle - place) / n_in, rng)
        starts = np.clip(np.floor(middle + 0.5).astype(np.int64) - sizes // 2, 0, window - sizes)
        taken = np.zeros(window, dtype=np.bool_)
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            taken[start : start + size] = True
        free = np.flatnonzero(~taken)
        taken[rng.choice(free, size=fan_in - window + free.size, replace=False)] = True
        centre = round(neuron * n_in / budget.n_out)
        return np.sort((np.flatnonzero(taken) + centre - place) % n_in)

    def _share_out(self, fan_in: int, distance: FloatArray, rng: np.random.Generator) -> IntArray:
        """Share the inputs of a neuron out over its dendrites, whose distance to its place is in shares of ``n_in``."""
        n = distance.size
        if self.synapses == "fixed":
            sizes = np.full(n, fan_in // n, dtype=np.int64)
            sizes[rng.choice(n, size=fan_in % n, replace=False)] += 1
            return sizes
        if self.synapses == "spatial_inversegaussian":
            distance = distance.max() - distance
        weight = np.exp(-((distance / _SYNAPSE_STD) ** 2) / 2)
        return rng.multinomial(fan_in, weight / weight.sum()).astype(np.int64)
