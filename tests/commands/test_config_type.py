"""A configuration that a file names."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from psn_lightning.cli import main
from psn_lightning.commands.config_type import ConfigFile
from psn_lightning.sweeps.sweep import parse
from tests.conftest import CONF

TEXT = "name: x\nspace: {model.lr: [0.1]}\nsampler: grid\n"


@pytest.mark.parametrize("base", ["quickstart", "pkg:quickstart.yaml", "../base.yaml"])
def test_names_addresses_and_paths_relative_to_the_file(base, workdir):
    (workdir / "base.yaml").write_text("model: {lr: 0.1}")
    (workdir / "folder").mkdir()
    (workdir / "folder" / "sweep.yaml").write_text(f"{TEXT}base: ['{base}']\n")
    sweep, _ = parse(["--config", "folder/sweep.yaml"])
    expected = workdir / "base.yaml" if base.startswith("..") else CONF / "quickstart.yaml"
    assert Path(sweep.base[0].absolute).resolve() == expected


def test_a_misspelt_name(workdir, capsys):
    (workdir / "sweep.yaml").write_text(f"{TEXT}base: [quikstart]\n")
    assert main(["sweep", "--config", "sweep.yaml"]) == 2
    assert "quickstart" in capsys.readouterr().err


def test_a_dumped_value_can_be_read_again(workdir):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--base", type=list[ConfigFile])
    once = parser.parse_args(["--base", "[quickstart]"])
    again = parser.parse_string(parser.dump(once))
    assert again.base[0].absolute == once.base[0].absolute == str(CONF / "quickstart.yaml")
