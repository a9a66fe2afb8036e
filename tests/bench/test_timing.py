"""Candidates take turns."""

import pytest

from psn_lightning.bench.timing import summarise, time_in_turn


def test_candidates_take_turns_and_each_is_measured_at_least_three_times():
    calls = []
    found = time_in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, seconds=0.0)
    assert [len(durations) for durations in found.values()] == [3, 3]
    assert calls[-6:] == ["a", "b"] * 3
    assert all(seconds >= 0 for durations in found.values() for seconds in durations)


def test_quick_candidates_are_called_several_times_in_a_row():
    calls = []
    found = time_in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, seconds=5.0)
    assert calls[-14:] == ["a"] * 7 + ["b"] * 7
    assert len(found["a"]) == len(found["b"]) == 40


@pytest.mark.parametrize(("durations", "quartiles"), [([3.0], [3.0, 3.0]), ([1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 4.5])])
def test_a_row_has_median_and_quartiles(durations, quartiles):
    row = summarise(durations, part="layer", width=4)
    assert row == {"part": "layer", "width": 4, "median": 3.0, "quartiles": quartiles, "n": len(durations)}
