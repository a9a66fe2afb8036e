"""Statistics over few seeds: means with intervals, paired differences, equivalence, and detectable differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

MARGIN = 0.3
"""Margin in percentage points within which two accuracies count as equal."""

LEVEL = 0.05
"""Significance level; the confidence of intervals is 1 - LEVEL."""

POWER = 0.8
"""Probability with which a t-test finds a difference of :attr:`Paired.detectable`."""

_RESAMPLES = 9999
_SEED = 0  # seed of the bootstrap, so that equal records give equal reports


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its 95% interval.

    The interval is the percentile bootstrap of the mean, which is too narrow for fewer than about ten seeds.
    """

    mean: float
    """Mean over the seeds."""
    std: float
    """Standard deviation (n - 1); NaN for one seed."""
    low: float
    """Lower bound of the interval; NaN for one seed."""
    high: float
    """Upper bound of the interval; NaN for one seed."""
    n: int
    """Number of seeds."""


def estimate(values: Sequence[float]) -> Estimate:
    """Compute mean, standard deviation and bootstrap interval.

    Args:
        values: Value of each seed, at least one.
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
    """Comparison of two conditions over the seeds that both have."""

    difference: float
    """Mean of the first minus the second condition."""
    low: float
    """Lower bound of the 95% interval of the difference (Student's t)."""
    high: float
    """Upper bound of the 95% interval of the difference (Student's t)."""
    n: int
    """Number of seeds that both conditions have."""
    p_t: float
    """p-value of the two-sided paired t-test."""
    p_wilcoxon: float
    """p-value of the two-sided signed-rank test, at least 2 / 2^n."""
    cohens_d: float
    """Mean of the differences divided by their standard deviation (d_z)."""
    p_equivalent: float
    """p-value of two one-sided t-tests (TOST); small if the difference is certainly within ± the margin."""
    margin: float
    """Largest difference that counts as equal."""
    detectable: float
    """Smallest true difference that n pairs with this standard deviation find with probability :data:`POWER`."""

    @property
    def equivalent(self) -> bool:
        """Whether the difference is certainly within the margin."""
        return self.p_equivalent < LEVEL

    @property
    def differ(self) -> bool:
        """Whether the difference is certainly outside the margin."""
        return self.low > self.margin or self.high < -self.margin


def paired(one: Mapping[int, float], other: Mapping[int, float], margin: float = MARGIN) -> Paired | None:
    """Compare two conditions seed by seed.

    Args:
        one: Values of the first condition by seed.
        other: Values of the second condition by seed.
        margin: Largest difference that counts as equal.

    Returns:
        Comparison; None for fewer than two seeds in common.
    """
    seeds = sorted(set(one) & set(other))
    if len(seeds) < 2:
        return None
    return _test_differences(np.array([one[seed] - other[seed] for seed in seeds]), margin)


def against(values: Sequence[float], reference: float, margin: float = MARGIN) -> Paired | None:
    """Compare values with a reference that is taken as exact, such as a printed number.

    Args:
        values: Value of each seed.
        reference: Reference value.
        margin: Largest difference that counts as equal.

    Returns:
        Comparison; None for fewer than two values.
    """
    return None if len(values) < 2 else _test_differences(np.asarray(values, dtype=np.float64) - reference, margin)


def _test_differences(differences: np.ndarray, margin: float) -> Paired:
    """Test differences, shape ``(n,)`` with n of at least 2, against 0 and against the margin."""
    n, mean, std = len(differences), float(differences.mean()), float(differences.std(ddof=1))
    if std <= 1e-12 * max(1.0, abs(mean)):  # no variance, as with made-up values: t-tests are undefined
        same, p = abs(mean) < margin, float(mean == 0)
        return Paired(
            mean, mean, mean, n, p, p, math.copysign(math.inf, mean) if mean else 0.0, 1.0 - same, margin, 0.0
        )
    error = std / math.sqrt(n)
    reach = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * error
    # p-values of the null hypotheses that the difference is below -margin, and above margin
    above = float(stats.t.sf((mean + margin) / error, n - 1))
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
    """Compute the smallest d_z that a paired t-test over n pairs finds with probability :data:`POWER`."""
    return float(TTestPower().solve_power(nobs=n, alpha=LEVEL, power=POWER))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of a family of comparisons by Holm's method.

    Args:
        p_values: p-value of each comparison.
    """
    return [] if not p_values else [float(p) for p in multipletests(p_values, method="holm")[1]]


@dataclass(frozen=True)
class Correlation:
    """Pearson correlation with Fisher's 95% interval."""

    r: float
    """Pearson's r."""
    low: float
    """Lower bound of the interval."""
    high: float
    """Upper bound of the interval."""
    n: int
    """Number of points."""


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Compute the Pearson correlation.

    Args:
        x: Values of the first quantity.
        y: Values of the second quantity, as many.

    Returns:
        Correlation; None for fewer than four points.
    """
    if len(x) < 4:
        return None
    result = stats.pearsonr(x, y)
    low, high = result.confidence_interval(1 - LEVEL)
    return Correlation(float(result.statistic), float(low), float(high), len(x))
