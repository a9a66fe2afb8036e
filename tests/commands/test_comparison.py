"""Runs by configuration: which count, and which settings tell them apart."""

import pytest

from psn_lightning.commands.compare import find
from psn_lightning.commands.comparison import compare
from psn_lightning.errors import SettingError
from tests.commands.comparing import print_comparison


def test_unfinished_and_repeated_runs_are_left_out_and_counted(three_by_two, track, capsys):
    track({"test/accuracy": 0.1}, status="KILLED", seed_everything=9)
    track({"test/accuracy": 0.1}, stage="sweep", seed_everything=9)
    track({"test/accuracy": 0.94}, seed_everything=2)  # a repetition: the newest run counts
    printed = " ".join(print_comparison(capsys).split())
    assert "1 not finished, 1 repeated" in printed
    assert "± 0.0757" in printed


def test_the_settings_of_a_search_are_shown_though_each_run_has_its_own(track, capsys):
    for i in range(3):
        track({"test/accuracy": 0.5}, model__lr=0.1 + i, model__weight_decay=0.7 - i / 10, model__storage="abc"[i])
    text = " ".join(print_comparison(capsys).split())
    assert "lr 0.1, weight_decay 0.7" in text
    assert "model.storage differs as model.lr does" in text


def test_settings_that_only_some_have(track, capsys):
    lognormal = {"model__topology__class_path": "psn_lightning.topology.Lognormal"}
    track({"test/accuracy": 0.5})
    track({"test/accuracy": 0.6}, **lognormal, model__topology__init_args__ccv=1.5)
    track({"test/accuracy": 0.7, "sparsity/realised": 0.9}, **lognormal, model__topology__init_args__ccv=2.5)
    lines = print_comparison(capsys, "--format", "markdown").splitlines()
    assert lines[0] == "| topology | ccv | test/accuracy | sparsity/realised | n |"
    assert sorted(lines[2:]) == [
        "| Lognormal | 1.5 | 0.6000 |  | 1 |",
        "| Lognormal | 2.5 | 0.7000 | 0.9000 | 1 |",
        "| Uniform |  | 0.5000 |  | 1 |",
    ]


def test_from_python(three_by_two):
    comparison = compare(find(None, "psn_lightning", None))
    assert comparison.mean["test/accuracy"].tolist() == pytest.approx([0.82, 0.7])
    assert not comparison.left_out
    with pytest.raises(SettingError, match="no run matches"):
        compare([])
