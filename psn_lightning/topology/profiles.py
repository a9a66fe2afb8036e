"""Profiles: relative fan-in as a function f(x) of the normalised neuron index x in [0, 1] (section 2.2)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from psn_lightning.errors import SettingError
from psn_lightning.topology.connectivity import IntArray
from psn_lightning.topology.fan_in import FanIn, FloatArray, LayerBudget
from psn_lightning.topology.scaling import scale_unclamped


class Profile(FanIn):
    """Deterministic profile f(x), scaled and clamped by Eq. 6; subclasses define f."""

    @abstractmethod
    def __call__(self, x: FloatArray) -> FloatArray:
        """Relative fan-in, non-negative, of the shape of ``x``.

        Args:
            x: Normalised neuron indices, in [0, 1].
        """

    def fan_in(self, budget: LayerBudget, rng: np.random.Generator) -> IntArray:
        """Fan-in of each neuron, shape ``(n_out,)``: f(i / (n_out - 1)), scaled, rounded and clamped; deterministic."""
        return scale_unclamped(self(np.linspace(0.0, 1.0, budget.n_out)) + _TINY, budget)


_TINY = np.finfo(np.float64).tiny  # makes the mean positive in a layer of one neuron, where f(0) may be 0


@dataclass(frozen=True)
class Linear(Profile):
    """f(x) = 1 - x (Eq. 1): hubs first, specialists last.

    Args:
        inverse: Whether to use f(1 - x): specialists first.
    """

    inverse: bool = False

    def __call__(self, x: FloatArray) -> FloatArray:
        """Relative fan-in at the normalised neuron indices ``x``, in [0, 1]."""
        return x if self.inverse else 1 - x


@dataclass(frozen=True)
class Quadratic(Profile):
    """f(x) = floor + (1 - floor)(1 - x²) (Eq. 2; floor 0 is the paper's formula).

    Args:
        inverse: Whether to use f(1 - x): specialists first.
        floor: Smallest relative fan-in, in [0, 1]. 0.345 gives the CCV of 0.25 printed in the paper's Table 6.
    """

    inverse: bool = False
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise SettingError(f"floor {self.floor} of Quadratic is not in [0, 1]")

    def __call__(self, x: FloatArray) -> FloatArray:
        """Relative fan-in at the normalised neuron indices ``x``, in [0, 1]."""
        x = 1 - x if self.inverse else x
        return self.floor + (1 - self.floor) * (1 - x**2)


@dataclass(frozen=True)
class Exponential(Profile):
    """f(x) = exp(-rate · x) (Eq. 3).

    Args:
        inverse: Whether to use f(1 - x): specialists first.
        rate: Decay over the layer, in [0, 500]. The paper's figures are reproduced with 3.
    """

    inverse: bool = False
    rate: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 500:  # exp underflows soon after
            raise SettingError(f"rate {self.rate} of Exponential is not in [0, 500]")

    def __call__(self, x: FloatArray) -> FloatArray:
        """Relative fan-in at the normalised neuron indices ``x``, in [0, 1]."""
        return np.exp(-self.rate * (1 - x if self.inverse else x))


@dataclass(frozen=True)
class Bell(Profile):
    """f(x) = exp(-(x - ½)² / (2 width²)) (Eq. 4): hubs in the middle of the layer.

    Args:
        inverse: Whether to use the complement 1 - f(x): hubs at both ends of the layer.
        width: Standard deviation of the bell as a fraction of the layer, in [0.01, 100].
    """

    inverse: bool = False
    width: float = 0.2

    def __post_init__(self) -> None:
        if not 0.01 <= self.width <= 100:
            raise SettingError(f"width {self.width} of Bell is not in [0.01, 100]")

    def __call__(self, x: FloatArray) -> FloatArray:
        """Relative fan-in at the normalised neuron indices ``x``, in [0, 1]."""
        bell = np.exp(-((x - 0.5) ** 2) / (2 * self.width**2))
        return 1 - bell if self.inverse else bell


@dataclass(frozen=True)
class MultiPeak(Profile):
    """f(x) = Σ_j exp(-sharpness · (x - c_j)²), c_j = (j + ½) / peaks (Eq. 10): evenly spaced clusters of hubs.

    The sharpness of the paper is not known. At 1000, one peak gives a CCV of 3.1 at sparsity 0.9 on 784 inputs, with
    854 of 1024 neurons at fan-in 1.

    Args:
        peaks: Number of peaks, at least 1.
        sharpness: Sharpness κ of the peaks, finite and not negative.
    """

    peaks: int = 1
    sharpness: float = 1000.0

    def __post_init__(self) -> None:
        if self.peaks < 1:
            raise SettingError(f"peaks {self.peaks} of MultiPeak must be at least 1")
        if not 0 <= self.sharpness < np.inf:
            raise SettingError(f"sharpness {self.sharpness} of MultiPeak must be a finite number ≥ 0")

    def __call__(self, x: FloatArray) -> FloatArray:
        """Relative fan-in at the normalised neuron indices ``x``, in [0, 1]."""
        density = np.zeros_like(x)
        for j in range(self.peaks):
            density += np.exp(-self.sharpness * (x - (j + 0.5) / self.peaks) ** 2)
        return density
