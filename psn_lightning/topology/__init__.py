"""Topologies: which input feeds which neuron. Uses numpy only."""

from psn_lightning.topology.allocation import AllocationName, allocate, allocate_exactly
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.design import AboveCeiling, BudgetName, Topology
from psn_lightning.topology.distributions import (
    Bernoulli,
    Lognormal,
    LognormalAtEquilibrium,
    PowerLaw,
    Shuffled,
    Uniform,
)
from psn_lightning.topology.fan_in import FanIn, LayerBudget, check_sparsity, sparsity_ceiling
from psn_lightning.topology.profiles import Bell, Exponential, Linear, MultiPeak, Profile, Quadratic
from psn_lightning.topology.scaling import draw_exactly, settle
from psn_lightning.topology.spreading import SpreadingName, spread
from psn_lightning.topology.wiring import Spread, Wired, Wiring, as_wiring, check_spreading, connect_layer
from psn_lightning.topology.wirings import (
    BlockSparse,
    Dendritic,
    Diagonals,
    GaussianDegree,
    Grouped,
    Orthogonal,
    ReceptiveField,
    ScaleFree,
    SmallWorld,
    SpatialDegree,
    UniformDegree,
)

FAMILIES: tuple[type[FanIn], ...] = (
    Linear, Quadratic, Exponential, Bell, MultiPeak, Lognormal, LognormalAtEquilibrium, PowerLaw, Uniform, Bernoulli,
    Shuffled,
)  # fmt: skip
"""Families of fan-in."""

DEGREES: tuple[type[FanIn], ...] = (GaussianDegree, UniformDegree, SpatialDegree)
"""Families of fan-in that the wiring :class:`Dendritic` brings."""

WIRINGS: tuple[type[Wiring], ...] = (
    ReceptiveField, SmallWorld, ScaleFree, Dendritic, BlockSparse, Grouped, Orthogonal, Diagonals,
)  # fmt: skip
"""Wirings, beside the families of fan-in."""

__all__ = [
    "DEGREES",
    "FAMILIES",
    "WIRINGS",
    "AboveCeiling",
    "AllocationName",
    "Bell",
    "Bernoulli",
    "BlockSparse",
    "BudgetName",
    "Connectivity",
    "Dendritic",
    "Diagonals",
    "Exponential",
    "FanIn",
    "GaussianDegree",
    "Grouped",
    "LayerBudget",
    "Linear",
    "Lognormal",
    "LognormalAtEquilibrium",
    "MultiPeak",
    "Orthogonal",
    "PowerLaw",
    "Profile",
    "Quadratic",
    "ReceptiveField",
    "ScaleFree",
    "Shuffled",
    "SmallWorld",
    "SpatialDegree",
    "Spread",
    "SpreadingName",
    "Topology",
    "Uniform",
    "UniformDegree",
    "Wired",
    "Wiring",
    "allocate",
    "allocate_exactly",
    "as_wiring",
    "check_sparsity",
    "check_spreading",
    "connect_layer",
    "draw_exactly",
    "settle",
    "sparsity_ceiling",
    "spread",
]
