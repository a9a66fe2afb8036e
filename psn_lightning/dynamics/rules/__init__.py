"""Rules of dynamic sparse training: scores by which connections are dropped and grown."""

from psn_lightning.dynamics.rules.pruning import MagnitudePruningRule
from psn_lightning.dynamics.rules.rigl import RigLRule
from psn_lightning.dynamics.rules.rule import LayerState, Rule, StructuredRule
from psn_lightning.dynamics.rules.set import SETRule
from psn_lightning.dynamics.rules.srigl import SRigLRule

__all__ = ["LayerState", "MagnitudePruningRule", "RigLRule", "Rule", "SETRule", "SRigLRule", "StructuredRule"]
