"""What few seeds allow to say: means with intervals, paired differences, equivalence, and what stays undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

MARGIN = 0.3
"""Accuracies that differ by less, in percentage points, are the same for all that the paper claims."""

LEVEL = 0.05
"""Significance level; intervals have confidence 1 - LEVEL."""

POWER = 0.8
"""Probability with which :attr:`Paired.detectable` would have been found."""

_RESAMPLES = 9999
_SEED = 0  # of the bootstrap: the same record gives the same report


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    std: float
    """Standard deviation (n - 1); NaN for one seed."""
    low: float
    """Of the 95% bootstrap interval of the mean (percentiles; too narrow below some ten seeds); NaN for one seed."""
    high: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, spread and bootstrap interval.

    Args:
        values: One per seed, at least one.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, 1)
    result = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    low, high = result.confidence_interval
    return Estimate(mean, float(sample.std(ddof=1)), float(low), float(high), n)


@dataclass(frozen=True)
class Paired:
    """The difference of two conditions over the seeds that both have."""

    difference: float
    """Mean of one minus the other."""
    low: float
    """Of the 95% interval of the difference (Student's t)."""
    high: float
    n: int
    """Seeds that both have."""
    p_t: float
    """Two-sided paired t-test."""
    p_wilcoxon: float
    """Two-sided signed-rank test; cannot be below 2 / 2^n."""
    cohens_d: float
    """Mean of the differences over their standard deviation (d_z)."""
    p_equivalent: float
    """Two one-sided t-tests (TOST): small where the difference is certainly within ± the margin."""
    margin: float
    detectable: float
    """Smallest true difference that n pairs with this spread find with probability 0.8."""

    @property
    def equivalent(self) -> bool:
        """Whether the two are the same within the margin."""
        return self.p_equivalent < LEVEL

    @property
    def differ(self) -> bool:
        """Whether the difference is certainly not within the margin."""
        return self.low > self.margin or self.high < -self.margin


def paired(one: Mapping[int, float], other: Mapping[int, float], margin: float = MARGIN) -> Paired | None:
    """Compare two conditions seed by seed.

    Args:
        one: Value by seed.
        other: Likewise.
        margin: What counts as the same.

    Returns:
        The comparison; None where fewer than two seeds have both.
    """
    seeds = sorted(set(one) & set(other))
    if len(seeds) < 2:
        return None
    return _judged(np.array([one[seed] - other[seed] for seed in seeds]), margin)


def against(values: Sequence[float], reference: float, margin: float = MARGIN) -> Paired | None:
    """Compare values with a figure that is taken as exact, such as one that the paper prints.

    Args:
        values: One per seed.
        reference: The figure.
        margin: What counts as the same.

    Returns:
        The comparison; None for fewer than two values.
    """
    return None if len(values) < 2 else _judged(np.asarray(values, dtype=np.float64) - reference, margin)


def _judged(differences: np.ndarray, margin: float) -> Paired:
    n, mean, std = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    if std <= 1e-12 * max(1.0, abs(mean)):  # no spread at all, as in a test: nothing is left to chance
        same, p = abs(mean) < margin, float(mean == 0)
        return Paired(
            mean, mean, mean, n, p, p, math.copysign(math.inf, mean) if mean else 0.0, 1.0 - same, margin, 0.0
        )
    error = std / math.sqrt(n)
    reach = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * error
    above = float(stats.t.sf((mean + margin) / error, n - 1))  # against: it is below -margin
    below = float(stats.t.cdf((mean - margin) / error, n - 1))
    return Paired(
        difference=mean,
        low=mean - reach,
        high=mean + reach,
        n=n,
        p_t=float(stats.ttest_1samp(differences, 0.0).pvalue),
        p_wilcoxon=float(stats.wilcoxon(differences, method="auto").pvalue),
        cohens_d=mean / std,
        p_equivalent=max(above, below),
        margin=margin,
        detectable=_detectable_effect(n) * std,
    )


def _detectable_effect(n: int) -> float:
    """Smallest d_z that a paired t-test over n pairs finds with probability :data:`POWER`."""
    return float(TTestPower().solve_power(nobs=n, alpha=LEVEL, power=POWER))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of comparisons, corrected by Holm's method."""
    return [] if not p_values else [float(p) for p in multipletests(p_values, method="holm")[1]]


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with Fisher's 95% interval."""

    r: float
    low: float
    high: float
    n: int


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """How closely two quantities follow a line; None for fewer than four points."""
    if len(x) < 4:
        return None
    result = stats.pearsonr(x, y)
    low, high = result.confidence_interval(1 - LEVEL)
    return Correlation(float(result.statistic), float(low), float(high), len(x))
