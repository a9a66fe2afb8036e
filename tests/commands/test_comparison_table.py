"""The table of `psn-train compare`: short, and wide enough to tell configurations apart."""

import re

from tests.commands.comparing import print_comparison


def test_the_text_table_fits_into_eighty_columns(track, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    metrics = dict.fromkeys(
        ["test/accuracy", "val/accuracy", "sparsity/realised", "fan_in/ccv", "time/epoch_seconds"], 0.5
    )
    for i in range(6):
        callbacks = {
            "trainer__callbacks__0__class_path": f"psn_lightning.Rule{i}",
            "trainer__callbacks__1__class_path": "x" * i,
        }
        track(metrics, model__sparsity=i % 3, model__lr=i, **callbacks)
    lines = print_comparison(capsys).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert re.search(r"(model\.lr|callbacks\.0\.class_path)[\w., ]* differs? as", text)  # redundant: no column


def test_a_setting_of_a_list_is_named_by_the_list(track, capsys):
    for name in ("RigL", "SET"):
        track({"test/accuracy": 0.5}, trainer__callbacks__0__class_path=f"psn_lightning.{name}")
    assert print_comparison(capsys, "--format", "markdown").startswith("| callbacks.0 | test/accuracy | n |")


def test_names_of_settings_are_as_long_as_needed(track, capsys):
    track({"test/accuracy": 0.5}, model__lr=1, data__init_args__lr=1)
    track({"test/accuracy": 0.5}, model__lr=2, data__init_args__lr=2)
    track({"test/accuracy": 0.5}, model__lr=2, data__init_args__lr=1)
    assert "| data.lr | model.lr |" in print_comparison(capsys, "--format", "markdown")


def test_a_metric_of_fewer_runs_is_shown_with_its_n(track, capsys):
    track({"test/accuracy": 0.5, "extra": 1.0}, seed_everything=1)
    track({"test/accuracy": 0.7}, seed_everything=2)
    printed = print_comparison(capsys, "--metric", "test/accuracy", "--metric", "extra", "--format", "markdown")
    assert "| 0.6000 ± 0.1414 | 1.0000 (n=1) | 2 |" in printed


def test_numbers_are_rounded_unless_two_would_become_equal(track, capsys):
    for rate in ("0.1", "0.100001", "0.2"):
        track({"test/accuracy": 0.5}, model__lr=rate)
    assert [line.split(" | ")[0] for line in print_comparison(capsys, "--format", "markdown").splitlines()[2:]] == [
        "| 0.1", "| 0.100001", "| 0.2",
    ]  # fmt: skip


def test_of_many_settings_that_differ_together_few_are_named(track, capsys):
    names = [f"trainer__callbacks__0__init_args__{name}" for name in "abcdefgh"]
    track({"test/accuracy": 0.5}, trainer__callbacks__0__class_path="Sparsify", **dict.fromkeys(names, "1"))
    track({"test/accuracy": 0.6}, trainer__callbacks__0__class_path="RigL")
    printed = print_comparison(capsys)
    assert 0 < printed.count("init_args.") < len(names)
