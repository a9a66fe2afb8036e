"""Hooks of one run: masks, gradients, topology updates, recording, checkpoints."""

from psn_lightning.callbacks.checkpoint import BestAndLast
from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.equilibrium import EquilibriumMonitor
from psn_lightning.callbacks.generators import GeneratorState
from psn_lightning.callbacks.gradients import GradientRatio
from psn_lightning.callbacks.guards import NumericalGuard
from psn_lightning.callbacks.masks import MaskReapply
from psn_lightning.callbacks.methods import GMP, SET, RigL, SRigL
from psn_lightning.callbacks.moments import PortableMoments
from psn_lightning.callbacks.progress import Progress
from psn_lightning.callbacks.recording import EpochTimer, LastEvaluation, TopologyLogger
from psn_lightning.callbacks.replay import ReplayOrder
from psn_lightning.callbacks.settings import OptimizerSettings
from psn_lightning.callbacks.sparsify import Sparsify
from psn_lightning.callbacks.variants import RigLVariant

__all__ = [
    "GMP",
    "SET",
    "BestAndLast",
    "DynamicTopology",
    "EpochTimer",
    "EquilibriumMonitor",
    "GeneratorState",
    "GradientRatio",
    "LastEvaluation",
    "MaskReapply",
    "NumericalGuard",
    "OptimizerSettings",
    "PortableMoments",
    "Progress",
    "ReplayOrder",
    "RigL",
    "RigLVariant",
    "SRigL",
    "Sparsify",
    "TopologyLogger",
]
