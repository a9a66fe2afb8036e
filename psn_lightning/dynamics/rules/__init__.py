"""Rules of dynamic sparse training: scores by which connections are dropped and grown."""

from psn_lightning.dynamics.rules.acdc import ACDCRule
from psn_lightning.dynamics.rules.cht import CHTRule
from psn_lightning.dynamics.rules.chts import CHTsRule, CHTssRule
from psn_lightning.dynamics.rules.granet import GraNetRule
from psn_lightning.dynamics.rules.gse import GSERule
from psn_lightning.dynamics.rules.mest import MESTRule
from psn_lightning.dynamics.rules.pruning import MagnitudePruningRule
from psn_lightning.dynamics.rules.rigl import RigLRule
from psn_lightning.dynamics.rules.rule import Rule, StructuredRule
from psn_lightning.dynamics.rules.set import SETRule
from psn_lightning.dynamics.rules.srigl import SRigLRule
from psn_lightning.dynamics.rules.structures import NMRule, UnitRule

__all__ = [
    "ACDCRule",
    "CHTRule",
    "CHTsRule",
    "CHTssRule",
    "GSERule",
    "GraNetRule",
    "MESTRule",
    "MagnitudePruningRule",
    "NMRule",
    "RigLRule",
    "Rule",
    "SETRule",
    "SRigLRule",
    "StructuredRule",
    "UnitRule",
]
