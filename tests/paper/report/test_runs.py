import pytest

from psn_lightning.paper.report.runs import Runs, accuracy, best_accuracy, curve, half_accuracy, last_accuracy
from tests.paper.report.conftest import recorded


def test_estimators_of_a_run_with_one_evaluation_per_epoch():
    run = recorded("static", "mnist", {"profile": "bell"}, 1, 90.0, curve=[80, 81, 82, 83, 84, 99, 90, 91, 92, 90])
    assert accuracy(run) == pytest.approx((90 + 91 + 92 + 90) / 4)
    assert half_accuracy(run) == pytest.approx((99 + 90 + 91 + 92 + 90) / 5)
    assert (last_accuracy(run), best_accuracy(run)) == pytest.approx((90, 99))


def test_more_evaluations_in_the_tail_count_in_the_mean_and_not_in_the_curve():
    run = recorded("static", "mnist", {"profile": "bell"}, 1, 96.0, curve=[90, 91, 92, 94, 96])
    object.__setattr__(run, "evaluated", [1.0, 2.0, 2.25, 2.5, 3.0])
    assert accuracy(run) == pytest.approx((92 + 94 + 96) / 3)
    assert curve(run) == pytest.approx([90, 91, 96])


def test_two_runs_of_one_seed_are_not_silently_one():
    runs = Runs([recorded("static", "mnist", {"profile": p}, 1, 98.0) for p in ("bell", "random")])
    with pytest.raises(ValueError, match="select a cell"):
        runs.by_seed()
    with pytest.raises(ValueError, match="seed 1"):
        Runs([*runs.all, *runs.all]).layout("profile")


def test_computations_that_are_equal_bit_for_bit_count_once():
    one, two = (recorded(name, "mnist", {"profile": "bell"}, 1, 98.0) for name in ("static", "gradient"))
    other = recorded("static", "mnist", {"profile": "bell"}, 2, 98.1)
    assert len(Runs([one, two, other]).distinct()) == 2
