"""Wirings by name: receptive fields, small worlds, scale-free, dendritic, blocks, groups, orthogonal, diagonals."""

from psn_lightning.topology.wirings.block_sparse import BlockSparse
from psn_lightning.topology.wirings.degrees import GaussianDegree, SpatialDegree, UniformDegree
from psn_lightning.topology.wirings.dendritic import Dendritic
from psn_lightning.topology.wirings.diagonals import Diagonals
from psn_lightning.topology.wirings.grouped import Grouped
from psn_lightning.topology.wirings.orthogonal import Orthogonal
from psn_lightning.topology.wirings.receptive_field import ReceptiveField
from psn_lightning.topology.wirings.scale_free import ScaleFree
from psn_lightning.topology.wirings.small_world import SmallWorld

__all__ = [
    "BlockSparse",
    "Dendritic",
    "Diagonals",
    "GaussianDegree",
    "Grouped",
    "Orthogonal",
    "ReceptiveField",
    "ScaleFree",
    "SmallWorld",
    "SpatialDegree",
    "UniformDegree",
]
