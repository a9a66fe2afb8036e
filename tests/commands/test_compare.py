"""``psn-train compare``: one row for each configuration; metrics averaged over the seeds."""

import io

import pandas as pd
import pytest

from psn_lightning.cli import main
from tests.commands.comparing import print_comparison


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "test/acuracy"], "--metric test/acuracy"),
        (["--experiment", "elsewhere"], "--experiment 'elsewhere' is not in"),
        (["nonsense ="], "filter 'nonsense ='"),
        (["tags.study = 'none'"], "no run matches"),
        (["--uri", "file:runs"], "file:runs"),
        (["--uri", "http://127.0.0.1:1"], "http://127.0.0.1:1"),
    ],
)
def test_wrong_arguments_are_named(three_by_two, capsys, arguments, message):
    assert main(["compare", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
