"""Which runs of an experiment are the ones that decide."""

import pytest

from psn_lightning.paper.report.looks import complete_looks, select_deciding
from psn_lightning.paper.report.runs import Runs
from tests.conftest import ROOT
from tests.paper.report.conftest import recorded
from tests.paper.report.test_evidence import FIVE, equilibrium_runs, planned


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_runs_under_the_plan_take_the_place_of_older_ones_with_their_last_run():
    older, every = [recorded("advantage", "emnist", {"start": "erk"}, 42, 92.0)], planned(FIVE[:3], 90)
    other = [recorded("static", "emnist", {"profile": "x"}, 42, 98.0)]
    assert select_deciding(Runs([*older, *every, *other])).all == [*every, *other]
    assert select_deciding(Runs([*older, *every[1:], *other])).all == [*older, *other]
    assert select_deciding(Runs(every[1:])).all == every[1:]


def test_where_no_look_can_ever_be_complete_all_runs_count_once_all_are_there():
    runs = equilibrium_runs(lambda i: "" if i < 4 else "digest")
    assert select_deciding(Runs(runs)).all == runs
    assert select_deciding(Runs(runs[:-1])).all == runs[:4]


def test_looks_are_complete_with_their_last_run():
    runs = planned(FIVE)
    found = complete_looks(Runs(runs), "advantage", "emnist")
    assert [(number, of, len(seeds)) for number, of, seeds in found] == [(1, 2, 3), (2, 2, 5)]
    assert [number for number, *_ in complete_looks(Runs(runs[:-1]), "advantage", "emnist")] == [1]
    assert complete_looks(Runs(runs), "advantage", "mnist") == []  # it has none there


def test_runs_of_an_experiment_that_is_not_here_have_no_look():
    runs = [recorded("elsewhere", "mnist", {"x": 1}, seed, 98.0, plan=plan) for seed, plan in ((1, ""), (2, "d"))]
    assert complete_looks(Runs(runs), "elsewhere", "mnist") == []
    assert select_deciding(Runs(runs)).all == runs[:1]
