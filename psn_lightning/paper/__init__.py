"""Reproduction of arXiv 2604.10560: runs and their record, verdicts on claims, report, variants of RigL."""

from psn_lightning.paper.tail import TailEvaluation
from psn_lightning.paper.variants import RigLVariant

__all__ = ["RigLVariant", "TailEvaluation"]
