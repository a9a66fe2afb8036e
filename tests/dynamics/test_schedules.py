import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.dynamics import CosineSchedule
from psn_lightning.errors import SettingError


def test_first_middle_and_last_fraction():
    schedule = CosineSchedule(drop_fraction=0.3, period=100, end=0.75)
    assert schedule.end_step(8000) == 6000
    assert schedule.fraction(0, 8000) == pytest.approx(0.3)
    assert schedule.fraction(3000, 8000) == pytest.approx(0.15)
    assert schedule.fraction(5900, 8000) == pytest.approx(0.15 * (1 + math.cos(math.pi * 5900 / 6000)))
    assert schedule.fraction(6000, 8000) == pytest.approx(0, abs=1e-12)


def test_a_late_begin_starts_the_cosine_afresh():
    schedule = CosineSchedule(drop_fraction=0.4, period=50, begin=1000, end=3000)
    assert schedule.fraction(1000, 9999) == pytest.approx(0.4)
    assert schedule.fraction(2000, 9999) == pytest.approx(0.2)
    assert [s for s in range(9999) if schedule.is_update(s, 9999)] == list(range(1000, 3000, 50))


@given(st.integers(1, 50), st.integers(0, 100), st.floats(0.5, 1.0), st.integers(300, 2000))
def test_updates_lie_in_the_window_and_fractions_fall(period, begin, end, total):
    schedule = CosineSchedule(period=period, begin=begin, end=end)
    steps = [s for s in range(total) if schedule.is_update(s, total)]
    fractions = [schedule.fraction(s, total) for s in steps]
    assert steps[0] == begin
    assert steps[-1] < schedule.end_step(total)
    assert {b - a for a, b in pairwise(steps)} <= {period}
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[-1] > 0


@pytest.mark.parametrize(
    "arguments",
    [{"drop_fraction": 0.0}, {"drop_fraction": 1.1}, {"period": 0}, {"begin": -1}, {"end": 0.0}, {"end": 1.5}],
)
def test_values_out_of_range_are_named(arguments):
    with pytest.raises(SettingError, match=next(iter(arguments))):
        CosineSchedule(**arguments)


def test_a_run_without_end_needs_an_end_in_steps():
    with pytest.raises(SettingError, match="share of a run without end"):
        CosineSchedule(end=0.75).end_step(math.inf)
    assert CosineSchedule(end=500).end_step(math.inf) == 500


def test_a_window_without_updates_is_refused():
    with pytest.raises(SettingError, match="no topology update fits"):
        CosineSchedule(begin=80, end=0.75).end_step(100)
