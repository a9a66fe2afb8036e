"""Format of numbers, and the rules of judgement."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.paper.report.statistics import paired
from psn_lightning.paper.report.verdicts import Verdict, advantage, all_above, all_the_same, number, p_value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.126, "+0.13"), (-0.126, "−0.13"), (-0.001, "+0.00"), (0.0, "+0.00"), (math.inf, "+∞"), (math.nan, "–")],
)
def test_numbers(value, text):
    assert number(value, sign=True) == text


@given(st.floats(0, 1))
def test_p_values(p):
    text = p_value(p)
    assert text == "< 0.001" if p < 0.001 else float(text) == pytest.approx(p, abs=5e-4)


def comparison(differences, margin=0.3):
    return paired(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0), margin)


SAME = comparison([0.02, -0.03, 0.01, 0.0, 0.04])
ABOVE = comparison([1.0, 1.1, 0.9, 1.05, 0.95])
BELOW = comparison([-1.0, -1.1, -0.9, -1.05, -0.95])
NOISY = comparison([2.0, -2.1, 1.0, -0.5, 0.1])


@pytest.mark.parametrize(
    ("comparisons", "verdict"),
    [
        ([SAME, SAME], Verdict.REPRODUCED),
        ([SAME, NOISY], Verdict.OPEN),
        ([SAME, NOISY, ABOVE], Verdict.NOT_REPRODUCED),
        ([], Verdict.OPEN),
    ],
)
def test_all_the_same(comparisons, verdict):
    assert all_the_same(dict(enumerate(comparisons))) == verdict


@pytest.mark.parametrize(
    ("comparisons", "verdict"),
    [
        ([ABOVE, ABOVE], Verdict.REPRODUCED),
        ([ABOVE, NOISY], Verdict.OPEN),
        ([ABOVE, BELOW], Verdict.NOT_REPRODUCED),
        ([], Verdict.OPEN),
    ],
)
def test_all_above(comparisons, verdict):
    assert all_above(dict(enumerate(comparisons))) == verdict


def test_an_advantage_is_not_reproduced_if_the_interval_excludes_it():
    assert advantage(ABOVE, 0.5) is Verdict.REPRODUCED
    assert advantage(SAME, 0.5) is Verdict.NOT_REPRODUCED
    assert advantage(NOISY, 0.5) is Verdict.OPEN
    assert advantage(BELOW, 0.5) is Verdict.NOT_REPRODUCED
