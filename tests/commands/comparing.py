"""`psn-train compare` as tests run it."""

from psn_lightning.cli import main


def print_comparison(capsys, *arguments):
    assert main(["compare", *arguments]) == 0
    return capsys.readouterr().out
