"""Block-sparse wiring (Gray, Radford & Kingma, 2017): dense blocks, placed by a layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

import numpy as np

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.distributions import Bernoulli
from psn_lightning.topology.fan_in import FanIn, LayerBudget
from psn_lightning.topology.wiring import Wiring, connect_layout, warn_of_missed


@dataclass(frozen=True)
class BlockSparse(Wiring):
    """Dense blocks of size × size connections; a layout says which of them exist.

    Only whole blocks: the number of connections is the nearest multiple of size², and a warning says by how much it
    misses the budget. The neurons of a row of blocks are a group that shares its inputs, as in :class:`Grouped`.

    Args:
        size: Width and height of a block; divides the numbers of inputs and neurons.
        layout: Topology of the grid of blocks, any family or wiring: :class:`Bernoulli` is random, :class:`Uniform`
            balanced over the neurons, :class:`Diagonals` over the inputs as well; :class:`SmallWorld` and
            :class:`ScaleFree` are the layouts of Gray et al. without their additional diagonal.

    Raises:
        SettingError: If the size is below 1.
    """

    size: int = 16
    layout: FanIn | Wiring = field(default_factory=Bernoulli)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SettingError(f"size {self.size} of BlockSparse must be at least 1")

    def connect(self, budget: LayerBudget, rng: np.random.Generator) -> Connectivity:
        """Connect a layer.

        Raises:
            UnreachableError: If the size does not divide the layer, or the layout cannot be had on its grid.
            SettingError: If the layout brings weights.
        """
        common, size = gcd(budget.n_in, budget.n_out), self.size
        if common % size:
            divisors = ", ".join(str(d) for d in range(1, common + 1) if common % d == 0)
            raise UnreachableError(
                f"blocks of {size} × {size} do not divide {budget.name}, {budget.n_in} inputs and {budget.n_out} "
                f"neurons: use a size of {divisors}"
            )
        grid = connect_layout(self.layout, self._make_grid(budget), rng, "BlockSparse", "blocks cannot have")
        connectivity = _expand(grid, size)
        if connectivity.n_connections != budget.n_connections:
            warn_of_missed(budget, connectivity.n_connections, f"in whole blocks of {size} × {size}")
        return connectivity

    def _make_grid(self, budget: LayerBudget) -> LayerBudget:
        """Budget of the grid, whose connections are the blocks."""
        n_in, n_out = budget.n_in // self.size, budget.n_out // self.size
        smallest = -(-budget.min_fan_in // self.size)
        n_blocks = max(round(budget.n_connections / self.size**2), smallest * n_out)
        return LayerBudget(
            n_in, n_out, max(0.0, 1 - n_blocks / (n_in * n_out)), smallest, f"the blocks of {budget.name}"
        )


def _expand(grid: Connectivity, size: int) -> Connectivity:
    """Replace every connection of a grid by a dense block."""
    if size == 1:
        return grid
    columns = (grid.indices[:, None] * size + np.arange(size)).ravel()
    rows = Connectivity.from_fan_in(grid.n_in * size, grid.fan_in * size, columns)
    return Connectivity.from_grid(rows, np.repeat(np.arange(grid.n_out), size))
