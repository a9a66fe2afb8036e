"""Differences with their standard errors: tests of equality, superiority and size, and corrections of families."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower


@dataclass(frozen=True)
class Contrast:
    """Estimated difference, normally distributed with an estimated standard error."""

    difference: float
    """Estimate, in the unit of the measure."""
    error: float
    """Standard error of the estimate."""
    df: float
    """Degrees of freedom of the standard error."""
    n: int
    """Number of seeds."""

    def interval(self, alpha: float) -> tuple[float, float]:
        """Compute the interval with confidence ``1 - alpha``."""
        reach = float(stats.t.ppf(1 - alpha / 2, self.df)) * self.error
        return self.difference - reach, self.difference + reach

    def p_above(self, bound: float = 0.0) -> float:
        """Test that the true difference is above a bound, one-sided."""
        return float(stats.t.sf(self._t(self.difference - bound), self.df))

    def p_below(self, bound: float = 0.0) -> float:
        """Test that the true difference is below a bound, one-sided."""
        return float(stats.t.cdf(self._t(self.difference - bound), self.df))

    def p_not_zero(self) -> float:
        """Test that the true difference is not 0, two-sided."""
        return min(1.0, 2 * min(self.p_above(), self.p_below()))

    def p_within(self, margin: float) -> float:
        """Test that the true difference is within ± a margin: two one-sided tests (Schuirmann, 1987)."""
        return max(self.p_above(-margin), self.p_below(margin))

    def p_beyond(self, margin: float) -> float:
        """Test that the true difference is outside ± a margin: minimum-effect test (Murphy and Myors, 1999)."""
        size = abs(self.difference)
        return min(
            1.0, float(stats.t.sf(self._t(size - margin), self.df) + stats.t.cdf(self._t(-size - margin), self.df))
        )

    def smallest_margin(self, alpha: float) -> float:
        """Compute the smallest margin within which the difference is shown to be."""
        return abs(self.difference) + float(stats.t.ppf(1 - alpha, self.df)) * self.error

    def predicts(self, value: float, error: float, alpha: float) -> bool:
        """Return whether another study's value is within the prediction interval of a replication.

        Args:
            value: Value of the other study.
            error: Its standard error.
            alpha: 1 - confidence of the interval.
        """
        reach = float(stats.t.ppf(1 - alpha / 2, self.df)) * math.hypot(self.error, error)
        return abs(self.difference - value) <= reach

    def _t(self, value: float) -> float:
        if self.error > 0:
            return value / self.error
        return math.copysign(math.inf, value) if value else 0.0  # made-up values without variance


def welch(values: Sequence[float], mean: float, std: float, n: int) -> Contrast | None:
    """Compare values with a mean that was measured elsewhere, both with their own variance (Welch, 1947).

    Args:
        values: Value of each seed.
        mean: Mean of the other sample.
        std: Standard deviation of the other sample.
        n: Size of the other sample, at least 2.

    Returns:
        Mean of the values minus the other mean; None for fewer than two values.
    """
    if len(values) < 2:
        return None
    own, other = float(np.var(values, ddof=1)) / len(values), std**2 / n
    total = own + other
    df = total**2 / (own**2 / (len(values) - 1) + other**2 / (n - 1)) if total else len(values) - 1
    return Contrast(float(np.mean(values)) - mean, math.sqrt(total), df, len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of a family of comparisons by Holm's method (1979).

    statsmodels' ``multipletests`` does the same, and collects garbage at every call: a fifth of a second.

    Args:
        p_values: p-value of each comparison.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return [float(value) for value in corrected]


def hardly_detectable(error: float, n: int) -> float:
    """Compute the effect for which a study had a power of one third: "small telescopes" (Simonsohn, 2015).

    Args:
        error: Standard error of the study's difference.
        n: Number of its pairs, at least 2.
    """
    return float(TTestPower().solve_power(nobs=n, alpha=0.05, power=1 / 3)) * error * math.sqrt(n)


def farthest(contrasts: Mapping[str, Contrast]) -> tuple[str, Contrast]:
    """Find the contrast with the largest absolute difference; return its name and the contrast."""
    return max(contrasts.items(), key=lambda entry: abs(entry[1].difference))
