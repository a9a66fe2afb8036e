"""Sparse layers and the network made of them."""

from psn_lightning.nn.init import InitName
from psn_lightning.nn.masked import MaskedLinear
from psn_lightning.nn.mlp import SparseMLP
from psn_lightning.nn.sparse_linear import SparseLinear
from psn_lightning.nn.storages import StorageName

__all__ = ["InitName", "MaskedLinear", "SparseLinear", "SparseMLP", "StorageName"]
