"""Contrasts: functions of scipy and statsmodels as oracles, and error rates by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from psn_lightning.paper.report.contrasts import Contrast, farthest, hardly_detectable, holm, welch


def of(values):
    """Contrast of a sample of differences with 0."""
    return Contrast(float(np.mean(values)), float(stats.sem(values)), len(values) - 1, len(values))


SAMPLES = st.lists(st.floats(-3, 3), min_size=3, max_size=12).filter(lambda values: np.std(values) > 1e-3)


@settings(max_examples=60)
@given(SAMPLES, st.floats(0.1, 2), st.floats(0.001, 0.2))
def test_tests_and_intervals_are_those_of_the_libraries(values, margin, alpha):
    contrast, library = of(values), DescrStatsW(values)
    assert contrast.p_not_zero() == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-12)
    assert contrast.p_above(margin) == pytest.approx(stats.ttest_1samp(values, margin, alternative="greater").pvalue)
    assert contrast.p_below(margin) == pytest.approx(stats.ttest_1samp(values, margin, alternative="less").pvalue)
    assert contrast.p_within(margin) == pytest.approx(library.ttost_mean(-margin, margin)[0], abs=1e-12)
    assert contrast.interval(alpha) == pytest.approx(library.tconfint_mean(alpha))


@settings(max_examples=60)
@given(SAMPLES, st.floats(0.001, 0.2))
def test_the_smallest_margin_is_where_equality_is_just_shown(values, alpha):
    contrast = of(values)
    assert contrast.p_within(contrast.smallest_margin(alpha) * 1.0001) <= alpha
    other = Contrast(contrast.difference, contrast.error, contrast.df, contrast.n)
    below = abs(contrast.difference) * 0.5
    assert other.p_within(below) > alpha or below > other.smallest_margin(alpha)


def test_false_findings_of_a_minimum_effect():
    """At a true difference of exactly the margin, 5% are found to be beyond it, and 5% to be within."""
    draws = np.random.default_rng(1).normal(0.3, 0.4, (4000, 5))
    found = [of(values) for values in draws]
    assert np.mean([c.p_beyond(0.3) < 0.05 for c in found]) == pytest.approx(0.05, abs=0.012)
    assert np.mean([c.p_within(0.3) < 0.05 for c in found]) < 0.062


def test_a_prediction_interval_contains_a_second_study():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(2000):
        ours, theirs = of(rng.normal(0.4, 1, 10)), rng.normal(0.4, 1, 10)
        hits.append(ours.predicts(float(theirs.mean()), 1 / math.sqrt(10), 0.05))
    assert 0.93 < np.mean(hits) < 0.97


@given(SAMPLES, SAMPLES)
def test_welch_is_scipys(values, others):
    found = welch(values, float(np.mean(others)), float(np.std(others, ddof=1)), len(others))
    library = stats.ttest_ind(values, others, equal_var=False)
    assert found.p_not_zero() == pytest.approx(library.pvalue, abs=1e-9)
    assert found.interval(0.05) == pytest.approx(tuple(library.confidence_interval(0.95)))


def test_welch_counts_the_noise_of_the_printed_mean():
    """A printed mean that is taken as exact is found to differ too often."""
    rng, exact, found = np.random.default_rng(3), 0, 0
    for _ in range(2000):
        ours, printed = rng.normal(98, 0.15, 5), rng.normal(98, 0.15, 5)
        exact += stats.ttest_1samp(ours, printed.mean()).pvalue < 0.05
        found += welch(ours, printed.mean(), printed.std(ddof=1), 5).p_not_zero() < 0.05
    assert exact / 2000 > 0.1
    assert found / 2000 < 0.06


def test_one_value_has_no_variance():
    assert welch([98.0], 98.16, 0.12, 5) is None


@pytest.mark.parametrize(("difference", "within", "beyond"), [(0.0, 0.0, 1.0), (0.1, 0.0, 1.0), (5.0, 1.0, 0.0)])
def test_without_noise(difference, within, beyond):
    contrast = Contrast(difference, 0.0, 2, 3)
    assert (contrast.p_within(0.3), contrast.p_beyond(0.3)) == (within, beyond)
    assert contrast.interval(0.05) == (difference, difference)


@settings(max_examples=10, deadline=None)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_statsmodels(values):
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_of_nothing():
    assert holm([]) == []


def test_the_power_at_a_hardly_detectable_effect_is_a_third():
    effect = hardly_detectable(1 / math.sqrt(10), 10)
    draws = np.random.default_rng(4).normal(effect, 1, (3000, 10))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(1 / 3, abs=0.03)


def test_the_farthest_may_be_below():
    contrasts = {"a": Contrast(0.1, 0.1, 4, 5), "b": Contrast(-0.3, 0.1, 4, 5)}
    assert farthest(contrasts) == ("b", contrasts["b"])
