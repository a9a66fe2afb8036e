"""Schedules of topology updates: at which optimizer steps, and which share of the connections."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from psn_lightning.errors import SettingError


@dataclass(frozen=True)
class Window:
    """Steps of the updates of one run: ``begin``, ``begin + period``, … below ``end``, in optimizer steps from 0."""

    begin: int
    """Step of the first update."""
    end: int
    """Bound of the steps; the last update is before it."""
    period: int
    """Steps from one update to the next."""

    @property
    def is_empty(self) -> bool:
        """Whether the run has no update."""
        return self.begin >= self.end

    @property
    def last(self) -> int:
        """Step of the last update."""
        return self.begin + (self.end - 1 - self.begin) // self.period * self.period

    def progress(self, step: int) -> float:
        """Return the place of an update among all: 0 for the first, 1 for the last, and 1 if there is only one."""
        return (step - self.begin) / (self.last - self.begin) if self.last > self.begin else 1.0

    def is_update(self, step: int) -> bool:
        """Return whether the topology is updated at optimizer step ``step``."""
        return self.begin <= step < self.end and (step - self.begin) % self.period == 0


@dataclass(frozen=True)
class Schedule(ABC):
    """Base class of schedules: updates every ``period`` steps from ``begin`` to ``end``; subclasses define the decay.

    Args:
        drop_fraction: Share of the connections that the first update replaces (α), in (0, 1].
        period: Time between updates: optimizer steps (int, ΔT in RigL) or epochs (float; 1.0 is one epoch).
        begin: First update: an optimizer step (int) or a share of the run (float in [0, 1)); None means one period
            after the start.
        end: End of the updates, exclusive: an optimizer step (int) or a share of the run (float in (0, 1]).

    Raises:
        SettingError: If an argument is out of range.
    """

    drop_fraction: float = 0.3
    period: int | float = 100
    begin: int | float | None = 0
    end: int | float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.drop_fraction <= 1:
            raise SettingError(f"drop_fraction {self.drop_fraction} is not in (0, 1]")
        if not 0 < self.period < math.inf or (isinstance(self.period, int) and self.period < 1):
            raise SettingError(f"period {self.period} is neither an int ≥ 1 (optimizer steps) nor a float > 0 (epochs)")
        if self.begin is not None and (self.begin < 0 or (isinstance(self.begin, float) and not self.begin < 1)):
            raise SettingError(
                f"begin {self.begin} is neither an int ≥ 0 (step) nor a float in [0, 1) (share of the run)"
            )
        if isinstance(self.end, float) and not 0 < self.end <= 1:
            raise SettingError(f"end {self.end} is not in (0, 1]: use a share of the run (float) or a step (int)")

    def window(self, total_steps: float, steps_per_epoch: float = math.inf) -> Window:
        """Compute the updates of a run.

        Args:
            total_steps: Optimizer steps of the run; may be infinite.
            steps_per_epoch: Optimizer steps of an epoch; may be infinite.

        Returns:
            Steps of the updates; an empty window if the run ends before the first update.

        Raises:
            SettingError: If ``end`` is not after ``begin``, or a share of an infinite length is given.
        """
        period = self._to_steps("period", self.period, steps_per_epoch, "epoch")
        begin = period if self.begin is None else self._to_steps("begin", self.begin, total_steps, "run")
        end = self._to_steps("end", self.end, total_steps, "run")
        alike = type(self.begin) is type(self.end)
        contradicts = self.begin >= self.end if alike else 0 < end <= begin < total_steps  # type: ignore[operator]
        if self.begin is not None and contradicts:
            raise SettingError(
                f"no topology update fits into the run: begin {self.begin} (step {begin}) is not before end {self.end} "
                f"(step {end}): lower begin or raise end"
            )
        return Window(begin, max(begin, int(min(end, total_steps))), max(1, period))

    @staticmethod
    def _to_steps(name: str, value: int | float, length: float, unit: str) -> int:
        """Convert a share of a length (float) to steps; steps (int) are returned unchanged."""
        if isinstance(value, int):
            return value
        if math.isinf(length):
            raise SettingError(
                f"{name} {value} is a share of the {unit}, whose number of steps is unknown: give {name} as an int "
                f"(optimizer steps), or give the {unit} a finite length"
            )
        return round(value * length)

    def fraction(self, step: int, window: Window) -> float:
        """Compute the share of the connections to replace: ``drop_fraction`` at the first update, decreasing after it.

        Args:
            step: Optimizer step of the update.
            window: Updates of the run, see :meth:`window`.

        Returns:
            Share in [0, ``drop_fraction``].
        """
        return self.drop_fraction * self.factor((step - window.begin) / self._get_span(window))

    def _get_span(self, window: Window) -> int:
        """Return the number of steps over which the factor decreases, at least 1."""
        return window.end - window.begin

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Compute the factor of ``drop_fraction``.

        Args:
            progress: Share of the updates' time that has passed: 0 at the first update, up to 1.
        """


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Cosine decay: f(t) = α/2 · (1 + cos(π (t − begin) / (end − begin))) (Evci et al., 2020, arXiv 1911.11134)."""

    def factor(self, progress: float) -> float:
        """Cosine from 1 at progress 0 to 0 at progress 1."""
        return (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """Constant fraction: f(t) = α, the ζ of SET (Mocanu et al., 2018)."""

    def factor(self, progress: float) -> float:
        """Factor 1 at every progress."""
        return 1.0


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """Linear decay: f(t) = α · (1 − (t − begin) / (end − begin))."""

    def factor(self, progress: float) -> float:
        """Line from 1 at progress 0 to 0 at progress 1."""
        return 1 - progress


@dataclass(frozen=True)
class CubicSchedule(Schedule):
    """Cubic decay: f(t) = α · (1 − (t − begin) / (last − begin))³ (Zhu & Gupta, 2018, arXiv 1710.01878, Eq. 1).

    The fraction is 0 at the last update, where gradual magnitude pruning reaches its final sparsity.
    """

    def factor(self, progress: float) -> float:
        """Cubic from 1 at progress 0 to 0 at progress 1."""
        return (1 - progress) ** 3

    def _get_span(self, window: Window) -> int:
        """Return the number of steps from the first to the last update, at least 1."""
        return max(1, window.last - window.begin)

    def fraction(self, step: int, window: Window) -> float:
        """Compute the fraction as in the base class; 0 if the run has a single update, which is then the last."""
        return 0.0 if window.last == window.begin else super().fraction(step, window)


@dataclass(frozen=True)
class SigmoidSchedule(CubicSchedule):
    """Sigmoid decay from α to 0 at the last update (Zhang et al., 2026, arXiv 2501.19107, CHTss).

    f(t) = α/2 · (1 − tanh(k (p − 1/2)) / tanh(k/2)) with steepness k = 6 and p = (t − begin) / (last − begin).
    """

    def factor(self, progress: float) -> float:
        """Sigmoid from 1 at progress 0 to 0 at progress 1, symmetric about 1/2."""
        return (1 - math.tanh(6 * (progress - 0.5)) / math.tanh(3)) / 2


@dataclass(frozen=True)
class StepSchedule(Schedule):
    """Three phases: α in the first 9/16 of the time, α/2 until 12/16, then 0.

    Source: Yuan et al., 2021, MEST, arXiv 2110.14032: epochs 90 and 120 of 160.
    """

    def factor(self, progress: float) -> float:
        """Factor 1, 1/2 or 0."""
        return 1.0 if progress < 9 / 16 else 0.5 if progress < 12 / 16 else 0.0
