"""Statistics: two-sample functions of scipy and statsmodels as oracles, coverage by simulation, and bounds."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from psn_lightning.paper.report.statistics import against, correlation, estimate, holm, paired

VALUES = st.lists(st.floats(80, 100), min_size=3, max_size=12)


def by_seed(values):
    return dict(enumerate(values))


@settings(max_examples=30)
@given(VALUES)
def test_an_interval_contains_the_mean_and_is_within_the_values(values):
    result = estimate(values)
    assert min(values) - 1e-9 <= result.low <= result.mean + 1e-9
    assert result.mean - 1e-9 <= result.high <= max(values) + 1e-9
    assert result.n == len(values)
    assert estimate(values) == result


def test_the_coverage_of_the_interval():
    rng = np.random.default_rng(1)
    hits = [(r := estimate(rng.normal(5, 2, 40))).low <= 5 <= r.high for _ in range(200)]
    assert 0.89 < np.mean(hits) < 0.99


def test_one_seed_has_no_interval():
    result = estimate([97.5])
    assert result.mean == 97.5
    assert all(map(math.isnan, (result.std, result.low, result.high)))


@settings(max_examples=40)
@given(VALUES, st.integers(0, 999), st.floats(0.1, 2))
def test_paired_tests_are_those_of_the_libraries(values, seed, margin):
    one = np.array(values)
    other = one + np.random.default_rng(seed).normal(0.2, 0.3, len(one))
    result = paired(by_seed(one), by_seed(other), margin)
    assert result.p_t == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert result.p_equivalent == pytest.approx(ttost_paired(one, other, -margin, margin)[0], abs=1e-9)
    assert result.low <= result.difference <= result.high
    assert result.cohens_d == pytest.approx((one - other).mean() / (one - other).std(ddof=1))
    assert not (result.equivalent and result.differ)
    assert result.p_wilcoxon == pytest.approx(stats.wilcoxon(one, other).pvalue)
    mirrored = paired(by_seed(other), by_seed(one), margin)
    assert mirrored.difference == pytest.approx(-result.difference)
    assert mirrored.p_equivalent == pytest.approx(result.p_equivalent, abs=1e-9)


def test_only_common_seeds_count():
    result = paired({1: 1.0, 2: 2.0, 3: 9.0}, {2: 1.5, 1: 0.6, 7: 0.0})
    assert result.n == 2
    assert result.difference == pytest.approx(0.45)
    assert paired({1: 1.0, 2: 2.0}, {2: 1.0, 3: 1.0}) is None


def test_a_difference_that_is_not_significant_is_not_equivalence():
    noisy = paired(by_seed([90, 92, 88, 91]), by_seed([91, 89, 90.5, 90]))
    assert noisy.p_t > 0.05
    assert not noisy.equivalent
    assert noisy.detectable > 1
    close = paired(by_seed([90.01, 90.02, 90.0, 90.03]), by_seed([90.0, 90.03, 90.01, 90.0]))
    assert close.p_t > 0.05
    assert close.equivalent
    assert close.detectable < 0.1


def test_the_power_at_the_detectable_difference():
    rng = np.random.default_rng(3)
    template = rng.normal(0, 1, 8)
    template = (template - template.mean()) / template.std(ddof=1)
    effect = paired(by_seed(template), by_seed(np.zeros(8))).detectable
    found = [stats.ttest_1samp(rng.normal(effect, 1, 8), 0).pvalue < 0.05 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_against_a_printed_number():
    result = against([98.1, 98.3, 98.2], 98.16)
    assert result.difference == pytest.approx(0.04)
    assert result.equivalent == (result.p_equivalent < 0.05)
    assert against([98.1], 98.16) is None


@pytest.mark.parametrize("shift", [0.0, 0.1, 5.0])
def test_without_variance(shift):
    result = paired({1: 90 + shift, 2: 91 + shift, 3: 92 + shift}, {1: 90.0, 2: 91.0, 3: 92.0})
    assert result.equivalent == (shift < 0.3)
    assert result.differ == (shift > 0.3)


@settings(max_examples=10)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_a_p_value(values):
    corrected = holm(values)
    assert all(after >= before - 1e-12 for before, after in zip(values, corrected, strict=True))
    assert min(corrected) == pytest.approx(min(1.0, min(values) * len(values)))


def test_holm_of_nothing():
    assert holm([]) == []


@given(st.lists(st.floats(-9, 9), min_size=4, max_size=20, unique=True), st.integers(0, 99))
def test_correlation(x, seed):
    y = np.array(x) + np.random.default_rng(seed).normal(0, 1, len(x))
    assume(np.ptp(x) > 1e-3)
    result = correlation(x, y)
    assert result.r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert result.low <= result.r <= result.high
    assert correlation([1, 2, 3], [1, 2, 3]) is None
