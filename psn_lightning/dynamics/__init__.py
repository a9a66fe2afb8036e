"""Dynamic sparse training without Lightning: rules, schedules, and the engine that applies them."""

from psn_lightning.dynamics.engine import Change, moments_of, update_layer
from psn_lightning.dynamics.rules import (
    LayerState,
    MagnitudePruningRule,
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
    Window,
)
from psn_lightning.dynamics.updater import TopologyUpdater, check_layers

__all__ = [
    "Change",
    "ConstantSchedule",
    "CosineSchedule",
    "CubicSchedule",
    "LayerState",
    "LinearSchedule",
    "MagnitudePruningRule",
    "RigLRule",
    "Rule",
    "SETRule",
    "SRigLRule",
    "Schedule",
    "StructuredRule",
    "TopologyUpdater",
    "Window",
    "check_layers",
    "moments_of",
    "update_layer",
]
