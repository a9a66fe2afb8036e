"""``psn-train compare``: one row for each configuration; metrics averaged over the seeds."""

import io
import re

import pandas as pd
import pytest

from psn_lightning.cli import main
from psn_lightning.commands.compare import compare, find
from psn_lightning.errors import SettingError

BASE = {"seed_everything": 1, "model.sparsity": 0.9, "model.topology.class_path": "psn_lightning.topology.Uniform"}


@pytest.fixture
def track(client):
    """Function that records a run as a fit does."""
    experiment = client.create_experiment("psn_lightning")

    def record(metrics, status="FINISHED", stage="fit", **params):
        run = client.create_run(experiment, tags={"stage": stage}).info.run_id
        for key, value in {**BASE, **{key.replace("__", "."): value for key, value in params.items()}}.items():
            client.log_param(run, key, value)
        for key, value in metrics.items():
            client.log_metric(run, key, value)
        client.set_terminated(run, status)

    return record


@pytest.fixture
def three_by_two(track):
    for sparsity, accuracies in ((0.9, (0.80, 0.82, 0.84)), (0.95, (0.7, 0.7))):
        for seed, accuracy in enumerate(accuracies):
            track({"test/accuracy": accuracy}, seed_everything=seed, model__sparsity=sparsity)


def print_comparison(capsys, *arguments):
    assert main(["compare", *arguments]) == 0
    return capsys.readouterr().out


def test_seeds_are_one_row(three_by_two, capsys):
    printed = print_comparison(capsys)
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith("sparsity ")]
    assert rows == [["sparsity", "0.9", "0.8200", "3"], ["sparsity", "0.95", "0.7000", "2"]]
    assert "± 0.0200" in printed
    assert "topology" not in printed  # equal in all runs


def test_markdown(three_by_two, capsys):
    assert print_comparison(capsys, "--format", "markdown") == (
        "| sparsity | test/accuracy | n |\n| --- | --- | --- |\n"
        "| 0.9 | 0.8200 ± 0.0200 | 3 |\n| 0.95 | 0.7000 ± 0.0000 | 2 |\n"
    )


def test_csv_has_numbers(three_by_two, capsys):
    table = pd.read_csv(io.StringIO(print_comparison(capsys, "--format", "csv")))
    assert list(table) == ["model.sparsity", "test/accuracy mean", "test/accuracy std", "test/accuracy n"]
    assert table["test/accuracy std"].tolist() == pytest.approx([0.02, 0])


def test_a_filter_chooses(three_by_two, capsys):
    printed = print_comparison(capsys, "params.`model.sparsity` = '0.95'", "--format", "markdown")
    assert "0.82" not in printed
    assert "| 0.7000 ± 0.0000 | 2 |" in printed


def test_unfinished_and_repeated_runs_are_left_out_and_counted(three_by_two, track, capsys):
    track({"test/accuracy": 0.1}, status="KILLED", seed_everything=9)
    track({"test/accuracy": 0.1}, stage="sweep", seed_everything=9)
    track({"test/accuracy": 0.94}, seed_everything=2)  # a repetition: the newest run counts
    printed = " ".join(print_comparison(capsys).split())
    assert "1 not finished, 1 repeated" in printed
    assert "± 0.0757" in printed


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


def test_the_settings_of_a_search_are_shown_though_each_run_has_its_own(track, capsys):
    for i in range(3):
        track({"test/accuracy": 0.5}, model__lr=0.1 + i, model__weight_decay=0.7 - i / 10, model__storage="abc"[i])
    text = " ".join(print_comparison(capsys).split())
    assert "lr 0.1, weight_decay 0.7" in text
    assert "model.storage differs as model.lr does" in text


def test_a_setting_of_a_list_is_named_by_the_list(track, capsys):
    for name in ("RigL", "SET"):
        track({"test/accuracy": 0.5}, trainer__callbacks__0__class_path=f"psn_lightning.{name}")
    assert print_comparison(capsys, "--format", "markdown").startswith("| callbacks.0 | test/accuracy | n |")


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "test/acuracy"], "--metric test/acuracy"),
        (["--experiment", "elsewhere"], "--experiment 'elsewhere' is not in"),
        (["nonsense ="], "filter 'nonsense ='"),
        (["tags.study = 'none'"], "none of 0 runs has finished"),
        (["--uri", "file:runs"], "file:runs"),
        (["--uri", "http://127.0.0.1:1"], "http://127.0.0.1:1"),
    ],
)
def test_wrong_arguments_are_named(three_by_two, capsys, arguments, message):
    assert main(["compare", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_numbers_are_rounded_unless_two_would_become_equal(track, capsys):
    for rate in ("0.1", "0.100001", "0.2"):
        track({"test/accuracy": 0.5}, model__lr=rate)
    assert [line.split(" | ")[0] for line in print_comparison(capsys, "--format", "markdown").splitlines()[2:]] == [
        "| 0.1", "| 0.100001", "| 0.2",
    ]  # fmt: skip


def test_from_python(three_by_two):
    comparison = compare(find(None, "psn_lightning", None))
    assert comparison.mean["test/accuracy"].tolist() == pytest.approx([0.82, 0.7])
    assert not comparison.left_out
    with pytest.raises(SettingError, match="none of 0 runs"):
        compare([])


def test_of_many_settings_that_differ_together_few_are_named(track, capsys):
    names = [f"trainer__callbacks__0__init_args__{name}" for name in "abcdefgh"]
    track({"test/accuracy": 0.5}, trainer__callbacks__0__class_path="Sparsify", **dict.fromkeys(names, "1"))
    track({"test/accuracy": 0.6}, trainer__callbacks__0__class_path="RigL")
    printed = print_comparison(capsys)
    assert 0 < printed.count("init_args.") < len(names)
