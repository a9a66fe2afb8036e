"""What a run takes: by the record of machines like this one, else by a short training."""

import dataclasses

import pytest

from psn_lightning.paper.cost import estimate_run_seconds, print_list, recall_run_seconds
from psn_lightning.paper.reproduction import cells_of, epochs_of, load
from psn_lightning.tracking.provenance import machine
from tests.conftest import ROOT, require
from tests.paper.report.conftest import recorded


@pytest.fixture
def spreading(monkeypatch):
    monkeypatch.chdir(ROOT)
    require("mnist")
    return load("spreading")


def run(reproduction, seconds, here=True):
    curve = [90.0] * 4
    made = recorded(reproduction, "mnist", {}, 42, 90.0, curve=curve)
    return dataclasses.replace(made, seconds=seconds, machine=machine() if here else "another")


def test_its_own_runs_count_first(spreading):
    known = {"a": run("spreading", 30.0), "b": run("spreading", 50.0), "c": run("static", 999.0)}
    assert estimate_run_seconds("spreading", spreading, "mnist", known) == 40.0


def test_then_others_on_the_same_data_by_epoch(spreading):
    assert epochs_of(spreading, "mnist") == 10
    assert estimate_run_seconds("spreading", spreading, "mnist", {"c": run("static", 40.0)}) == 100.0


def test_else_it_is_measured(spreading, capfd):
    known = {"a": run("spreading", 1e9, here=False)}
    seconds = estimate_run_seconds("spreading", spreading, "mnist", known)
    assert 1 < seconds < 1000
    assert capfd.readouterr().out == ""
    assert len(cells_of(spreading, "mnist")) == 15


def test_the_list_measures_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("psn_lightning.paper.cost._measure_epoch", None)
    monkeypatch.setenv("COLUMNS", "200")
    print_list()
    assert "spreading" in capsys.readouterr().out


def test_without_a_run_of_such_a_machine_nothing_is_recalled(spreading):
    known = {"a": run("spreading", 30.0, here=False)}
    assert recall_run_seconds("spreading", spreading, "mnist", known) is None
