"""Lightning callbacks: sparsification, pruning, topology updates, masks, logging, guards."""

from psn_lightning.callbacks.cannistraci_hebb import CHT, CHTs, CHTss
from psn_lightning.callbacks.densities import ACDC, GMP, GraNet
from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.equilibrium import EquilibriumMonitor
from psn_lightning.callbacks.exploration import ExplorationMonitor
from psn_lightning.callbacks.gradients import GradientRatio
from psn_lightning.callbacks.guards import NumericalGuard
from psn_lightning.callbacks.masks import MaskReapply
from psn_lightning.callbacks.methods import GSE, MEST, SET, RigL, SRigL
from psn_lightning.callbacks.mixtures import MixtureLogger
from psn_lightning.callbacks.progress import Progress
from psn_lightning.callbacks.pruning import Prune
from psn_lightning.callbacks.recording import EpochTimer, LastEvaluation, TopologyLogger
from psn_lightning.callbacks.soft_threshold import STR
from psn_lightning.callbacks.sparsify import Sparsify
from psn_lightning.callbacks.topkast import TopKAST
from psn_lightning.callbacks.training_cost import TrainingCost

__all__ = [
    "ACDC",
    "CHT",
    "GMP",
    "GSE",
    "MEST",
    "SET",
    "STR",
    "CHTs",
    "CHTss",
    "DynamicTopology",
    "EpochTimer",
    "EquilibriumMonitor",
    "ExplorationMonitor",
    "GraNet",
    "GradientRatio",
    "LastEvaluation",
    "MaskReapply",
    "MixtureLogger",
    "NumericalGuard",
    "Progress",
    "Prune",
    "RigL",
    "SRigL",
    "Sparsify",
    "TopKAST",
    "TopologyLogger",
    "TrainingCost",
]
