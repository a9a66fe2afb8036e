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
from psn_lightning.topology.scaling import settle
from psn_lightning.topology.spreading import SpreadingName, spread

FAMILIES: tuple[type[FanIn], ...] = (
    Linear, Quadratic, Exponential, Bell, MultiPeak, Lognormal, LognormalAtEquilibrium, PowerLaw, Uniform, Bernoulli,
    Shuffled,
)  # fmt: skip
"""All families of fan-in."""

__all__ = [
    "FAMILIES",
    "AboveCeiling",
    "AllocationName",
    "Bell",
    "Bernoulli",
    "BudgetName",
    "Connectivity",
    "Exponential",
    "FanIn",
    "LayerBudget",
    "Linear",
    "Lognormal",
    "LognormalAtEquilibrium",
    "MultiPeak",
    "PowerLaw",
    "Profile",
    "Quadratic",
    "Shuffled",
    "SpreadingName",
    "Topology",
    "Uniform",
    "allocate",
    "allocate_exactly",
    "check_sparsity",
    "settle",
    "sparsity_ceiling",
    "spread",
]
