"""Every YAML in conf/: it runs, and each of its keys carries a comment."""

import pytest
import yaml

from psn_lightning.cli import main
from psn_lightning.data import DATASETS
from tests.conftest import CONF, QUIET, only_run, require

CONFIGS = sorted(path.stem for path in CONF.glob("*.yaml"))
PAPER = [f"{data}_{kind}" for data in ("mnist", "fashion", "emnist", "forest") for kind in ("dense", "static", "rigl")]


def test_the_thirteen_are_there():
    assert sorted([*PAPER, "quickstart"]) == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_it_runs_for_a_few_steps(name, client):
    data = name.split("_")[0]
    if data in DATASETS:
        require(data)
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=1"]
    assert main(["fit", "--config", str(CONF / f"{name}.yaml"), *QUIET, *few]) == 0
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == name
    target = 0.0 if name.endswith("dense") else 0.9
    assert run.data.metrics["sparsity/realised"] == pytest.approx(target, abs=0.001 if data in DATASETS else 0.005)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_is_explained(name):
    for line in (CONF / f"{name}.yaml").read_text().splitlines():
        assert not line.strip() or "# " in line, f"{name}.yaml: {line}"


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings(name, workdir, capsys):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    data, kind = name.split("_")
    epochs = {"mnist": 10, "fashion": 10, "emnist": 20, "forest": 30}[data]
    if kind == "rigl":
        epochs = 30 if data == "forest" else 20
        (rigl,) = config["trainer"]["callbacks"]
        assert rigl["init_args"]["drop_fraction"] == 0.3
        assert rigl["init_args"]["period"] == 100
        assert rigl["init_args"]["end"] == 0.75
    assert config["trainer"]["max_epochs"] == epochs
    assert config["data"]["init_args"]["batch_size"] == (256 if data == "forest" else 128)
    assert config["model"]["hidden"] == [1024] * (3 if data == "forest" else 2)
    assert config["model"]["lr"] == 0.001
