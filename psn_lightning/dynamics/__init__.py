"""Dynamic sparse training without Lightning: rules, schedules, and the engine that applies them."""

from psn_lightning.dynamics.engine import moments_of, update_layer, update_network
from psn_lightning.dynamics.rules import (
    ACDCRule,
    CHTRule,
    CHTsRule,
    CHTssRule,
    GraNetRule,
    MagnitudePruningRule,
    MESTRule,
    RigLRule,
    Rule,
    SETRule,
    SRigLRule,
    StructuredRule,
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
from psn_lightning.dynamics.updater import TopologyUpdater, check_layers
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Update

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
    "GraNetRule",
    "LayerState",
    "LinearSchedule",
    "MESTRule",
    "MagnitudePruningRule",
    "RigLRule",
    "Rule",
    "SETRule",
    "SRigLRule",
    "Schedule",
    "SigmoidSchedule",
    "StepSchedule",
    "StructuredRule",
    "TopologyUpdater",
    "Update",
    "Window",
    "check_layers",
    "moments_of",
    "update_layer",
    "update_network",
]
