"""Hooks of one run: masks, gradients, topology updates, recording, checkpoints."""

from psn_lightning.callbacks.checkpoint import BestAndLast
from psn_lightning.callbacks.dynamic import DynamicTopology, RigL
from psn_lightning.callbacks.gradients import GradientRatio
from psn_lightning.callbacks.masks import MaskReapply
from psn_lightning.callbacks.recording import EpochTimer, TopologyLogger

__all__ = [
    "BestAndLast",
    "DynamicTopology",
    "EpochTimer",
    "GradientRatio",
    "MaskReapply",
    "RigL",
    "TopologyLogger",
]
