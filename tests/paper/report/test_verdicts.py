"""Format of numbers, and the rules of judgement with their error rates."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.paper.report.contrasts import Contrast
from psn_lightning.paper.report.verdicts import (
    Claim,
    Size,
    Verdict,
    correct_family,
    judge_all_above,
    judge_equality,
    judge_none_above,
    judge_size,
    number,
    p_value,
)
from tests.paper.report.test_layout import simulate


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.126, "+0.13"), (-0.126, "−0.13"), (-0.001, "+0.00"), (0.0, "+0.00"), (math.inf, "+∞"), (math.nan, "–")],
)
def test_numbers(value, text):
    assert number(value, sign=True) == text


@given(st.floats(0, 1))
def test_p_values(p):
    text = p_value(p)
    assert text == "< 0.001" if p < 0.001 - 1e-9 else float(text) == pytest.approx(p, abs=5.1e-4)


@given(st.integers(-10_000, 10_000))
def test_the_last_bits_of_a_sum_do_not_decide_a_tie(thousandths):
    value = thousandths / 1000
    assert number(math.nextafter(value, math.inf)) == number(math.nextafter(value, -math.inf)) == number(value)


SAME = Contrast(0.01, 0.02, 8, 5)
ABOVE = Contrast(1.0, 0.05, 8, 5)
BELOW = Contrast(-1.0, 0.05, 8, 5)
NOISY = Contrast(0.1, 0.8, 8, 5)


@pytest.mark.parametrize(
    ("contrasts", "verdict"),
    [
        ([SAME, SAME], Verdict.REPRODUCED),
        ([SAME, NOISY], Verdict.OPEN),
        ([SAME, NOISY, ABOVE], Verdict.NOT_REPRODUCED),
    ],
)
def test_equality(contrasts, verdict):
    assert judge_equality(dict(enumerate(contrasts)), 0.3, 0.05) is verdict


@pytest.mark.parametrize(
    ("contrasts", "verdict"),
    [
        ([ABOVE, ABOVE], Verdict.REPRODUCED),
        ([ABOVE, NOISY], Verdict.OPEN),
        ([ABOVE, BELOW], Verdict.REVERSED),
        ([SAME], Verdict.NOT_REPRODUCED),
    ],
)
def test_all_above(contrasts, verdict):
    assert judge_all_above(dict(enumerate(contrasts)), 0.05, bound=0.1) is verdict


def test_support_of_several_advantages_needs_no_correction():
    """All of them have to hold: each at its own level is enough."""
    barely = Contrast(0.2, 0.1, 20, 5)  # one-sided p = 0.03
    assert judge_all_above(dict.fromkeys(range(5), barely), 0.05) is Verdict.REPRODUCED


def test_none_above():
    found = {"a": SAME, "b": SAME}
    assert judge_none_above(found, {"a": 0.4, "b": 0.5}, 0.3, 0.05) is Verdict.REPRODUCED
    assert judge_none_above({"a": NOISY}, {"a": 0.4}, 0.3, 0.05) is Verdict.OPEN
    assert judge_none_above({"a": ABOVE}, {"a": 0.01}, 0.3, 0.05) is Verdict.NOT_REPRODUCED


def test_direction_and_size_are_two_verdicts():
    """+0.20 [0.17, 0.24] against a claimed 0.49."""
    found = Contrast(0.205, 0.016, 12, 5)
    assert found.interval(0.05) == pytest.approx((0.17, 0.24), abs=0.005)
    assert judge_all_above({"equilibrium": found}, 0.05) is Verdict.REPRODUCED
    assert judge_size(found, 0.49, 0.05, 0.05) is Size.SMALLER
    assert judge_size(found, 0.22, 0.05, 0.05) is Size.COMPATIBLE
    assert judge_size(found, 0.05, 0.02, 0.05) is Size.LARGER
    assert judge_size(found, -0.3, 0.02, 0.05) is Size.SMALLER


def test_directions_on_several_data_sets_are_corrected_together():
    def claim(p, verdict=Verdict.REPRODUCED):
        return Claim("x", "y", verdict, "", p=p)

    both = correct_family([claim(0.02), claim(0.001), Claim("x", "y", Verdict.NOT_RUN, "")], 0.05)
    assert [found.verdict for found in both] == [Verdict.REPRODUCED, Verdict.REPRODUCED, Verdict.NOT_RUN]
    # Holm: 3 · 0.02 and 2 · 0.03; what has no runs counts as p = 1.
    both = correct_family([claim(0.02), claim(0.03, Verdict.REVERSED), Claim("x", "y", Verdict.NOT_RUN, "")], 0.05)
    assert [found.verdict for found in both] == [Verdict.OPEN, Verdict.OPEN, Verdict.NOT_RUN]


def test_false_verdicts_are_rare():
    """Six comparisons at exactly the margin, or without any difference: 5% of false verdicts at most, of each kind."""
    rng, cells = np.random.default_rng(8), ["random", *"abcdef"]
    wrong = {"not reproduced at the margin": 0, "reproduced at the margin": 0, "better": 0, "above": 0}
    for _ in range(150):
        signs = {cell: sign * 0.3 for cell, sign in zip("abcdef", itertools.cycle([1, -1]), strict=False)}
        at_margin = judge_equality(simulate(rng, 5, signs, cells=cells).against("random"), 0.3, 0.05)
        wrong["not reproduced at the margin"] += at_margin is Verdict.NOT_REPRODUCED
        wrong["reproduced at the margin"] += at_margin is Verdict.REPRODUCED
        null = simulate(rng, 5, cells=cells)
        p = null.p_any_above("random")
        wrong["better"] += judge_none_above(null.against("random"), p, 0.3, 0.05) is Verdict.NOT_REPRODUCED
        wrong["above"] += judge_all_above(null.against("random"), 0.05) is Verdict.REPRODUCED
    assert all(count / 150 < 0.086 for count in wrong.values()), wrong  # 5%, and two standard errors
