import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.dynamics import (
    ConstantSchedule,
    CosineSchedule,
    CubicSchedule,
    LinearSchedule,
    SigmoidSchedule,
    StepSchedule,
    Window,
)
from psn_lightning.errors import SettingError


def test_first_middle_and_last_fraction_of_the_cosine():
    schedule = CosineSchedule(drop_fraction=0.3, period=100, end=0.75)
    window = schedule.window(8000)
    assert window == Window(0, 6000, 100)
    assert window.last == 5900
    assert schedule.fraction(0, window) == pytest.approx(0.3)
    assert schedule.fraction(3000, window) == pytest.approx(0.15)
    assert schedule.fraction(5900, window) == pytest.approx(0.15 * (1 + math.cos(math.pi * 5900 / 6000)))
    assert schedule.fraction(6000, window) == pytest.approx(0, abs=1e-12)


def test_a_late_begin_starts_the_cosine_afresh():
    schedule = CosineSchedule(drop_fraction=0.4, period=50, begin=1000, end=3000)
    window = schedule.window(9999)
    assert schedule.fraction(1000, window) == pytest.approx(0.4)
    assert schedule.fraction(2000, window) == pytest.approx(0.2)
    assert [s for s in range(9999) if window.is_update(s)] == list(range(1000, 3000, 50))


def test_constant_linear_and_cubic():
    window = Window(100, 900, 100)  # last update: 800
    assert ConstantSchedule(0.3).fraction(800, window) == 0.3
    assert LinearSchedule(0.4).fraction(300, window) == pytest.approx(0.4 * 6 / 8)
    assert CubicSchedule(1.0).fraction(100, window) == 1.0
    assert CubicSchedule(1.0).fraction(450, window) == pytest.approx(0.125)
    assert CubicSchedule(1.0).fraction(800, window) == 0.0


def test_the_only_update_of_a_cubic_goes_all_the_way():
    schedule = CubicSchedule(1.0, period=100, begin=10, end=50)
    assert schedule.fraction(10, schedule.window(1000)) == 0.0


def test_steps_epochs_and_shares():
    assert SETLIKE.window(1000, 50) == Window(50, 1000, 50)
    assert SETLIKE.window(1000, 49.0).period == 49
    assert LinearSchedule(period=0.5, begin=0.25, end=0.5).window(1000, 100) == Window(250, 500, 50)
    assert LinearSchedule(period=0.001).window(1000, 100).period == 1


SETLIKE = ConstantSchedule(period=1.0, begin=None, end=1.0)


def test_the_sigmoid_is_symmetric_and_reaches_both_ends():
    window, schedule = Window(100, 901, 100), SigmoidSchedule(1.0)
    shares = [schedule.fraction(step, window) for step in range(100, 901, 100)]
    assert [shares[0], shares[4], shares[8]] == pytest.approx([1.0, 0.5, 0.0], abs=1e-12)
    assert [a + b for a, b in zip(shares, reversed(shares), strict=True)] == pytest.approx([1.0] * 9)
    # The logistic function of steepness 6, scaled to run from 0 to 1.
    logistic = [1 / (1 + math.exp(-12 * (p / 8 - 0.5))) for p in range(9)]
    scaled = [(value - logistic[0]) / (logistic[8] - logistic[0]) for value in logistic]
    assert [1 - share for share in shares] == pytest.approx(scaled)


def test_three_phases():
    window = Window(0, 160, 5)
    fractions = [StepSchedule(0.2).fraction(step, window) for step in range(0, 160, 5)]
    assert fractions == [0.2] * 18 + [0.1] * 6 + [0.0] * 8


def test_the_first_update_has_progress_0_and_the_last_1():
    window = Window(100, 850, 100)
    assert [window.progress(step) for step in (100, 450, 800)] == [0.0, 0.5, 1.0]
    assert Window(10, 50, 100).progress(10) == 1.0


@pytest.mark.parametrize(
    "kind", [ConstantSchedule, CosineSchedule, CubicSchedule, LinearSchedule, SigmoidSchedule, StepSchedule]
)
@given(st.integers(1, 50), st.integers(0, 100), st.floats(0.5, 1.0), st.integers(300, 2000))
def test_updates_lie_in_the_window_and_fractions_fall(kind, period, begin, end, total):
    schedule = kind(0.3, period, begin, end)
    window = schedule.window(total)
    steps = [s for s in range(total) if window.is_update(s)]
    fractions = [schedule.fraction(s, window) for s in steps]
    assert steps[0] == begin
    assert steps[-1] == window.last < window.end
    assert {b - a for a, b in pairwise(steps)} <= {period}
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[0] == pytest.approx(0.3)
    assert all(0 <= f <= 0.3 + 1e-12 for f in fractions)


@pytest.mark.parametrize(
    "arguments",
    [
        {"drop_fraction": 0.0},
        {"drop_fraction": 1.1},
        {"period": 0},
        {"period": 0.0},
        {"period": math.inf},
        {"begin": -1},
        {"begin": 1.0},
        {"end": 0.0},
        {"end": 1.5},
    ],
)
def test_values_out_of_range_are_named(arguments):
    with pytest.raises(SettingError, match=next(iter(arguments))):
        CosineSchedule(**arguments)


def test_a_run_without_end_needs_steps():
    with pytest.raises(SettingError, match=r"end 0\.75 .*run"):
        CosineSchedule(end=0.75).window(math.inf)
    with pytest.raises(SettingError, match=r"period 1\.0 .*epoch"):
        CosineSchedule(period=1.0).window(1000)
    assert CosineSchedule(end=500).window(math.inf).end == 500


def test_a_begin_that_is_not_before_the_end_is_refused():
    with pytest.raises(SettingError, match=r"begin 80 .*end 0\.75"):
        CosineSchedule(begin=80, end=0.75).window(100)
    for contradiction in ({"begin": 80, "end": 80}, {"begin": 0.5, "end": 0.25}):
        with pytest.raises(SettingError, match=r"begin .*end"):
            CosineSchedule(**contradiction).window(10)


@pytest.mark.parametrize("total", [1, 50, 80])
def test_the_window_of_a_run_that_ends_before_the_first_update_is_empty(total):
    window = CosineSchedule(begin=80, end=1.0).window(total)
    assert window.is_empty
    assert not any(window.is_update(step) for step in range(2 * total))
    assert not CosineSchedule(begin=80, end=1.0).window(81).is_empty
