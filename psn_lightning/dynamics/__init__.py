"""Dynamic sparse training without Lightning: rules, schedules, and the engine that applies them."""

from psn_lightning.dynamics.engine import update_layer, update_network
from psn_lightning.dynamics.latent import LatentLayer
from psn_lightning.dynamics.layer_checks import check_layers
from psn_lightning.dynamics.moments import moments_of
from psn_lightning.dynamics.rules import (
    ACDCRule,
    CHTRule,
    CHTsRule,
    CHTssRule,
    GraNetRule,
    GSERule,
    MagnitudePruningRule,
    MESTRule,
    NMRule,
    RigLRule,
    Rule,
    SETRule,
    SRigLRule,
    StructuredRule,
    UnitRule,
)
from psn_lightning.dynamics.schedules import (
    ConstantSchedule,
    CosineSchedule,
    CubicSchedule,
    LinearSchedule,
    Schedule,
    SigmoidSchedule,
    StepSchedule,
    Window,
)
from psn_lightning.dynamics.soft_threshold import SoftThresholdLayer
from psn_lightning.dynamics.topkast import TopKASTLayer
from psn_lightning.dynamics.updater import TopologyUpdater
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Pool, Sample, Update

__all__ = [
    "ACDCRule",
    "Block",
    "CHTRule",
    "CHTsRule",
    "CHTssRule",
    "Change",
    "Connections",
    "ConstantSchedule",
    "CosineSchedule",
    "CubicSchedule",
    "GSERule",
    "GraNetRule",
    "LatentLayer",
    "LayerState",
    "LinearSchedule",
    "MESTRule",
    "MagnitudePruningRule",
    "NMRule",
    "Pool",
    "RigLRule",
    "Rule",
    "SETRule",
    "SRigLRule",
    "Sample",
    "Schedule",
    "SigmoidSchedule",
    "SoftThresholdLayer",
    "StepSchedule",
    "StructuredRule",
    "TopKASTLayer",
    "TopologyUpdater",
    "UnitRule",
    "Update",
    "Window",
    "check_layers",
    "moments_of",
    "update_layer",
    "update_network",
]
