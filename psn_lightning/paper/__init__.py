"""The questions of arXiv 2604.10560: reproductions, their record, verdicts on claims, variants of RigL."""

from psn_lightning.paper.variants import RigLVariant

__all__ = ["RigLVariant"]
