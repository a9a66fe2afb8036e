"""Sparse layers of any module, their storages, and the network of the paper."""

from psn_lightning.nn.budgets import LayerSettings
from psn_lightning.nn.init import InitName
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.masked import MaskedLayer
from psn_lightning.nn.mixture_mlp import MixtureMLP
from psn_lightning.nn.mlp import SparseMLP
from psn_lightning.nn.moe import Mixture, MixtureLayer, auxiliary_loss, mixture_layers
from psn_lightning.nn.sparsify import densify, describe, sparsify
from psn_lightning.nn.storages import StorageName
from psn_lightning.nn.table import LayerRow, SparsityTable
from psn_lightning.nn.weights import sparse_layers

__all__ = [
    "InitName",
    "LayerRow",
    "LayerSettings",
    "MaskedLayer",
    "Mixture",
    "MixtureLayer",
    "MixtureMLP",
    "SparseLayer",
    "SparseMLP",
    "SparsityTable",
    "StorageName",
    "auxiliary_loss",
    "densify",
    "describe",
    "mixture_layers",
    "sparse_layers",
    "sparsify",
]
