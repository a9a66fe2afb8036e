"""Checkpoints of a run: complete files, exact resume, random generators, moments, stop signals, lottery tickets."""

from psn_lightning.checkpoints.best_and_last import BestAndLast
from psn_lightning.checkpoints.durable import DurableIO
from psn_lightning.checkpoints.generators import GeneratorState
from psn_lightning.checkpoints.lottery import make_ticket, redraw_ticket, shuffle_ticket
from psn_lightning.checkpoints.moments import PortableMoments
from psn_lightning.checkpoints.optimizers import OptimizerSettings
from psn_lightning.checkpoints.replay import ReplayOrder
from psn_lightning.checkpoints.restart import ExactRestart
from psn_lightning.checkpoints.rewind import RewindPoint

__all__ = [
    "BestAndLast",
    "DurableIO",
    "ExactRestart",
    "GeneratorState",
    "OptimizerSettings",
    "PortableMoments",
    "ReplayOrder",
    "RewindPoint",
    "make_ticket",
    "redraw_ticket",
    "shuffle_ticket",
]
