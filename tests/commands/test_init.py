"""The folder to work in."""

import shlex

import pytest
import yaml

from psn_lightning.cli import main
from tests.conftest import CONF, QUIET, only_run


def test_it_has_the_configurations_and_a_model_that_trains(client, workdir, monkeypatch, capsys):
    assert main(["init"]) == 0
    shipped = {str(p.relative_to(CONF)) for p in CONF.rglob("*.yaml") if "examples" not in p.parts}
    assert {str(p.relative_to(workdir / "conf")) for p in (workdir / "conf").rglob("*.yaml")} == shipped
    monkeypatch.syspath_prepend(workdir)
    assert main(["fit", "--config", "starter.yaml", *QUIET, "--trainer.max_epochs=3"]) == 0
    run = only_run(client)
    assert run.data.metrics["sparsity/realised"] == pytest.approx(0.9, abs=1e-3)
    assert run.data.metrics["val/accuracy"] > 0.5
    assert run.data.tags["rule"] == "RigL"


def test_its_readme_names_files_that_are_there(workdir):
    assert main(["init", "lab"]) == 0
    lab = workdir / "lab"
    commands = [line.split(" #")[0] for line in (lab / "README.md").read_text().splitlines() if "psn-train " in line]
    named = [word for command in commands for word in shlex.split(command) if word.endswith(".yaml")]
    assert len(named) >= 4
    assert all((lab / name).is_file() for name in named)
    for line in (lab / "starter.yaml").read_text().splitlines():
        assert not line.strip() or "# " in line, line
    assert yaml.safe_load((lab / "starter.yaml").read_text())["model"]["class_path"] == "starter.Starter"


@pytest.mark.parametrize("existing", ["conf/a.yaml", "starter.py", "README.md"])
def test_nothing_is_overwritten(existing, workdir, capsys):
    path = workdir / "lab" / existing
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert main(["init", "lab"]) == 2
    assert "overwritten" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert [p for p in (workdir / "lab").rglob("*") if p.is_file()] == [path]


def test_a_file_in_the_place_of_the_folder(workdir, capsys):
    (workdir / "lab").write_text("mine")
    assert main(["init", "lab"]) == 2
    assert (workdir / "lab").read_text() == "mine"
