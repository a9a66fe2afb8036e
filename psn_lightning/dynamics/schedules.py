"""Schedules: when the topology changes, and how much of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from psn_lightning.errors import SettingError


@dataclass(frozen=True)
class CosineSchedule:
    """Updates every ``period`` steps; the drop fraction falls along half a cosine (Evci et al., 2020).

    f(t) = α/2 · (1 + cos(π (t − begin) / (end − begin))) at t = begin, begin + period, … < end: α at the
    first update, 0 at ``end``, also when updates begin late or a run resumes.

    Args:
        drop_fraction: α, in (0, 1].
        period: Steps between updates (ΔT).
        begin: Step of the first update.
        end: Step before which the last update lies: a share of the run (float in (0, 1]) or a number of
            steps (int).

    Raises:
        SettingError: If a value is out of range.
    """

    drop_fraction: float = 0.3
    period: int = 100
    begin: int = 0
    end: int | float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.drop_fraction <= 1:
            raise SettingError(f"drop_fraction {self.drop_fraction} is not in (0, 1]")
        if self.period < 1:
            raise SettingError(f"period {self.period} must be at least 1 step")
        if self.begin < 0:
            raise SettingError(f"begin {self.begin} must be a step ≥ 0")
        if isinstance(self.end, float) and not 0 < self.end <= 1:
            raise SettingError(f"end {self.end} is not in (0, 1]: give a share of the run, or an integer of steps")

    def end_step(self, total_steps: float) -> int:
        """Step before which the last update lies.

        Raises:
            SettingError: If no update would fall into the run.
        """
        if isinstance(self.end, float) and math.isinf(total_steps):
            raise SettingError(f"end {self.end} is a share of a run without end: give max_epochs, or end as steps")
        end = round(self.end * total_steps) if isinstance(self.end, float) else int(min(self.end, total_steps))
        if end <= self.begin:
            raise SettingError(
                f"no topology update fits: begin {self.begin} is not before end {self.end} "
                f"(step {end} of {total_steps}); begin earlier, end later, or train longer"
            )
        return end

    def is_update(self, step: int, total_steps: float) -> bool:
        """Whether the topology changes at optimizer step ``step`` (from 0)."""
        return self.begin <= step < self.end_step(total_steps) and (step - self.begin) % self.period == 0

    def fraction(self, step: int, total_steps: float) -> float:
        """Share of the active connections that an update at ``step`` drops."""
        progress = (step - self.begin) / (self.end_step(total_steps) - self.begin)
        return self.drop_fraction / 2 * (1 + math.cos(math.pi * progress))
