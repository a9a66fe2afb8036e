"""Reproductions on the digits, through the command line."""

import json
from pathlib import Path

import pytest
import yaml

from psn_lightning.cli import main
from psn_lightning.experiments.record import RECORD, RecordedRun, from_experiment, read
from psn_lightning.experiments.reproduction import cells_of, epochs_of, load, names, plan_for
from tests.conftest import CONF, ROOT, require

SMALL = {
    "title": "Two profiles",
    "data": {"digits": [str(CONF / "quickstart.yaml")]},
    "settings": {"trainer.max_epochs": 2, "trainer.callbacks": None},
    "space": {"profile": {"random": {"model.topology": "Bernoulli"}, "bell": {"model.topology": "Bell"}}},
    "seeds": [1, 2],
}


@pytest.fixture
def small(workdir):
    path = workdir / "conf" / "reproduce" / "small.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(SMALL))
    return path


def ran():
    return sorted((run.cell["profile"], run.seed) for run in read().values())


def test_what_is_recorded_is_not_run_again(small, client, capfd):
    assert main(["reproduce", "small", "--seeds", "2", "--only", "profile=bell"]) == 0
    assert ran() == [("bell", 2)]
    assert main(["reproduce", "small", "--seeds", "2"]) == 0
    assert ran() == [("bell", 2), ("random", 2)]
    first = read()
    kept, lost = RECORD.read_text().splitlines()
    RECORD.write_text(f"{kept}\n")
    Path("mlruns/studies/small-digits.journal").unlink()  # as on another machine, which has the record alone
    assert main(["reproduce", "small"]) == 0
    assert ran() == [("bell", 1), ("bell", 2), ("random", 1), ("random", 2)]
    assert RECORD.read_text().splitlines()[0] == kept
    again = RecordedRun(**json.loads(lost)).key
    for name in ("test/accuracy", "test/loss", "gradient/ratio"):  # two runs of one cell are identical
        assert read()[again].metrics[name] == first[again].metrics[name]
    assert read()[again].digest == first[again].digest
    capfd.readouterr()
    assert main(["reproduce", "small"]) == 0
    assert "small, digits: all is in results/runs.jsonl" in capfd.readouterr().out
    assert main(["reproduce", "--list"]) == 0
    assert "Two profiles" in capfd.readouterr().out
    runs = client.search_runs(["1"], "tags.stage = 'fit'")
    assert len(runs) == 5
    from_mlflow = {run.key: run for run in from_experiment(None, "psn_lightning")}
    assert from_mlflow.keys() == read().keys()
    assert all(from_mlflow[key].metrics["test/accuracy"] == run.metrics["test/accuracy"] for key, run in read().items())
    for run in read().values():
        assert len(run.curves["test/accuracy"]) == 2
        assert run.completeness == "complete"


def test_a_grid_that_has_changed_is_begun_anew(small, capsys):
    assert main(["reproduce", "small", "--seeds", "1", "--only", "profile=bell"]) == 0
    changed = {**SMALL, "space": {"profile": {**SMALL["space"]["profile"], "linear": {"model.topology": "Linear"}}}}
    small.write_text(yaml.safe_dump(changed))
    assert main(["reproduce", "small", "--seeds", "1"]) == 2
    assert "has changed since mlruns/studies/small-digits.journal was begun; remove that" in capsys.readouterr().err
    Path("mlruns/studies/small-digits.journal").unlink()
    assert main(["reproduce", "small", "--seeds", "1", "--only", "profile=linear"]) == 0
    assert ran() == [("bell", 1), ("linear", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal"], "reproduction 'smal' is not one of small"),
        (["small", "--data", "mnist"], "--data mnist: small has digits"),
        (["small", "--seeds", "9"], "--seeds 9: small has 1, 2"),
        (["small", "--only", "profil=bell"], "--only profil=bell: give KEY=VALUE; small has profile"),
        (["small", "--only", "profile=bel"], "--only profile=bel: profile is one of bell, random"),
    ],
)
def test_what_cannot_be_is_named(small, capsys, arguments, message):
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_outside_a_checkout_it_says_so(workdir, capsys):
    assert main(["reproduce", "--list"]) == 2
    assert "conf/reproduce is not here" in capsys.readouterr().err


SHIPPED = sorted((CONF / "reproduce").glob("*.yaml"))
PAIRS = [(path.stem, data) for path in SHIPPED for data in yaml.safe_load(path.read_text())["data"]]


@pytest.mark.parametrize(("name", "data"), PAIRS)
def test_the_shipped_ones_can_be(name, data, workdir, monkeypatch):
    monkeypatch.chdir(ROOT)
    require(data)
    reproduction = load(name)
    plan = plan_for(name, reproduction, data)
    cells = cells_of(reproduction, data)
    assert len({json.dumps(cell) for cell in cells}) == len(cells) == plan.tickets.n
    assert plan.config["trainer"]["max_epochs"] == epochs_of(reproduction, data)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_is_explained(path):
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line, f"{path.name}: {line}"


def test_they_are_found(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert names() == sorted(path.stem for path in SHIPPED)
