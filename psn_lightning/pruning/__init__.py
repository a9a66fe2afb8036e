"""Pruning by saliency: before training, during it, and after it."""

from psn_lightning.pruning.csti import CSTI
from psn_lightning.pruning.obd import OBD
from psn_lightning.pruning.prune import Shuffle, prune
from psn_lightning.pruning.saliency import SNIP, GraSP, Magnitude, RandomScores, Saliency, Scope
from psn_lightning.pruning.structures import NMSaliency, UnitSaliency
from psn_lightning.pruning.synflow import SynFlow
from psn_lightning.pruning.twin import Forward, Twin, classify

__all__ = [
    "CSTI",
    "OBD",
    "SNIP",
    "Forward",
    "GraSP",
    "Magnitude",
    "NMSaliency",
    "RandomScores",
    "Saliency",
    "Scope",
    "Shuffle",
    "SynFlow",
    "Twin",
    "UnitSaliency",
    "classify",
    "prune",
]
