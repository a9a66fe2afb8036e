"""Sparse layers and the network made of them."""

from psn_lightning.nn.init import InitName
from psn_lightning.nn.masked import MaskedLinear
from psn_lightning.nn.mlp import SparseMLP, StorageName
from psn_lightning.nn.sparse_linear import SparseLinear

__all__ = ["InitName", "MaskedLinear", "SparseLinear", "SparseMLP", "StorageName"]
