"""Schedules: when the topology changes, and how much of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from psn_lightning.errors import SettingError


@dataclass(frozen=True)
class Window:
    """The updates of one run: ``begin``, ``begin + period``, … below ``end``, in optimizer steps from 0."""

    begin: int
    end: int
    period: int

    @property
    def is_empty(self) -> bool:
        """Whether the run ends before the first update."""
        return self.begin >= self.end

    @property
    def last(self) -> int:
        """Step of the last update."""
        return self.begin + (self.end - 1 - self.begin) // self.period * self.period

    def is_update(self, step: int) -> bool:
        """Whether the topology changes at optimizer step ``step``."""
        return self.begin <= step < self.end and (step - self.begin) % self.period == 0


@dataclass(frozen=True)
class Schedule(ABC):
    """Updates every ``period`` steps from ``begin`` until before ``end``; subclasses say how much each changes.

    Args:
        drop_fraction: Share of the connections that the first update replaces (α), in (0, 1].
        period: Optimizer steps between updates (int), or epochs (float: 1.0 is once per epoch).
        begin: Step of the first update (int), or a share of the run (float in [0, 1)); None is one period
            after the start.
        end: Step before which the last update lies (int), or a share of the run (float in (0, 1]).

    Raises:
        SettingError: If a value is out of range.
    """

    drop_fraction: float = 0.3
    period: int | float = 100
    begin: int | float | None = 0
    end: int | float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.drop_fraction <= 1:
            raise SettingError(f"drop_fraction {self.drop_fraction} is not in (0, 1]")
        if not 0 < self.period < math.inf or (isinstance(self.period, int) and self.period < 1):
            raise SettingError(f"period {self.period} must be at least 1 step (int), or epochs above 0 (float)")
        if self.begin is not None and (self.begin < 0 or (isinstance(self.begin, float) and not self.begin < 1)):
            raise SettingError(f"begin {self.begin} must be a step ≥ 0 (int), or a share of the run in [0, 1) (float)")
        if isinstance(self.end, float) and not 0 < self.end <= 1:
            raise SettingError(f"end {self.end} is not in (0, 1]: give a share of the run, or an integer of steps")

    def window(self, total_steps: float, steps_per_epoch: float = math.inf) -> Window:
        """The updates of a run.

        Args:
            total_steps: Optimizer steps of the run; may be infinite.
            steps_per_epoch: Optimizer steps of an epoch; may be infinite.

        Returns:
            An empty window where the run is too short for any update.

        Raises:
            SettingError: If the end does not lie behind the beginning, or a share is asked of something endless.
        """
        period = self._steps("period", self.period, steps_per_epoch, "an epoch", "max_steps and period as steps")
        begin = period if self.begin is None else self._steps("begin", self.begin, total_steps, "a run", "max_epochs")
        end = self._steps("end", self.end, total_steps, "a run", "max_epochs, or end as steps")
        alike = type(self.begin) is type(self.end)
        contradicts = self.begin >= self.end if alike else 0 < end <= begin < total_steps  # type: ignore[operator]
        if self.begin is not None and contradicts:
            raise SettingError(f"no topology update fits: begin {self.begin} is not before end {self.end}")
        return Window(begin, max(begin, int(min(end, total_steps))), max(1, period))

    @staticmethod
    def _steps(name: str, value: int | float, whole: float, of: str, remedy: str) -> int:
        """A number of steps as it is, a share as steps of its whole."""
        if isinstance(value, int):
            return value
        if math.isinf(whole):
            raise SettingError(f"{name} {value} is a share of {of} without end: give {remedy}")
        return round(value * whole)

    def fraction(self, step: int, window: Window) -> float:
        """Share that is left to change at ``step``: ``drop_fraction`` at the first update, then falling."""
        return self.drop_fraction * self.factor((step - window.begin) / self._span(window))

    def _span(self, window: Window) -> int:
        """Steps over which the factor falls; at least 1."""
        return window.end - window.begin

    @abstractmethod
    def factor(self, progress: float) -> float:
        """What is left of ``drop_fraction`` at ``progress``, which runs from 0 at the first update towards 1."""


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """f(t) = α/2 · (1 + cos(π (t − begin) / (end − begin))) (Evci et al., 2020): α at first, 0 at ``end``."""

    def factor(self, progress: float) -> float:
        """Half a cosine."""
        return (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """f(t) = α: every update changes as much as the first (SET's ζ)."""

    def factor(self, progress: float) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """f(t) = α · (1 − (t − begin) / (end − begin))."""

    def factor(self, progress: float) -> float:
        """A straight line."""
        return 1 - progress


@dataclass(frozen=True)
class CubicSchedule(Schedule):
    """f(t) = α · (1 − (t − begin) / (last − begin))³ (Zhu & Gupta, 2017, Eq. 1): 0 at the *last update*.

    There a pruning method has arrived at its final sparsity.
    """

    def factor(self, progress: float) -> float:
        """A falling cubic."""
        return (1 - progress) ** 3

    def _span(self, window: Window) -> int:
        """To the last update. A single update has nothing left to do later, see :meth:`fraction`."""
        return max(1, window.last - window.begin)

    def fraction(self, step: int, window: Window) -> float:
        """As in the base class; the only update of a run goes all the way."""
        return 0.0 if window.last == window.begin else super().fraction(step, window)
