"""Rules, schedules, and the engine that applies them."""

from psn_lightning.dynamics.engine import moments_of, update_layer
from psn_lightning.dynamics.rules import RigLRule, Rule
from psn_lightning.dynamics.schedules import CosineSchedule

__all__ = ["CosineSchedule", "RigLRule", "Rule", "moments_of", "update_layer"]
