"""Reproductions on the digits, through the command line."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from psn_lightning.cli import main
from psn_lightning.errors import SettingError
from psn_lightning.paper import cost
from psn_lightning.paper.plan import plan_digest
from psn_lightning.paper.record import RECORD, read
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.architectures import NETWORKS
from psn_lightning.paper.reproduction import cells_of, epochs_of, load, names, plan_for
from psn_lightning.paper.tracked_runs import from_experiment
from tests.conftest import CONF, ROOT, require

SMALL = {
    "title": "Two profiles",
    "data": {"digits": [str(CONF / "quickstart.yaml")]},
    "settings": {
        "trainer.max_epochs": 2,
        "trainer.callbacks": [{"class_path": "psn_lightning.paper.TailEvaluation", "init_args": {"per_epoch": 2}}],
    },
    "space": {"profile": {"random": {"model.topology": "Bernoulli"}, "bell": {"model.topology": "Bell"}}},
    "seeds": [1, 2],
}


@pytest.fixture
def small(workdir):
    path = workdir / "conf" / "reproduce" / "small.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(SMALL))
    path.with_name("plan.yaml").write_text("claims: {}\n")
    return path


def ran():
    return sorted((run.cell["profile"], run.seed) for run in read().values())


@pytest.mark.services
def test_what_is_recorded_is_not_run_again(small, client, capfd):
    assert main(["reproduce", "small", "--seeds", "2", "--only", "profile=bell"]) == 0
    assert ran() == [("bell", 2)]
    assert main(["reproduce", "small", "--seeds", "2"]) == 0
    assert ran() == [("bell", 2), ("random", 2)]
    first = read()
    kept, lost = RECORD.read_text().splitlines()
    RECORD.write_text(f"{kept}\n")
    Path("mlruns/studies/small-digits.db").unlink()  # as on another machine, which has the record alone
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
        assert list(run.accuracies) == pytest.approx([1, 1.5, 2], abs=0.03)  # 23 batches an epoch
        assert run.epochs == 2
        assert run.completeness == "complete"
        assert run.plan == plan_digest() != ""
    assert {run.plan for run in from_mlflow.values()} == {plan_digest()}


@pytest.mark.services
def test_a_run_whose_end_mlflow_does_not_know_is_recorded_later(small, client, capfd):
    """It is still in the spool; nothing falls, and the study's own figures are told once."""
    one = ["reproduce", "small", "--seeds", "2", "--only", "profile=bell"]
    assert main(one) == 0
    RECORD.unlink()
    (run,) = client.search_runs(["1"], "tags.stage = 'fit'")
    client.update_run(run.info.run_id, status="RUNNING")
    capfd.readouterr()
    assert main(one) == 0
    assert "psn-train sync" in " ".join(capfd.readouterr().out.split())
    assert not RECORD.exists()
    client.set_terminated(run.info.run_id, "FINISHED")
    assert main(one) == 0
    assert ran() == [("bell", 2)]
    (parent,) = client.search_runs(["1"], "tags.stage = 'sweep'")
    assert len(client.get_metric_history(parent.info.run_id, "trials/complete")) == 1


@pytest.mark.services
def test_a_grid_that_has_changed_is_begun_anew(small, capsys):
    assert main(["reproduce", "small", "--seeds", "1", "--only", "profile=bell"]) == 0
    changed = {**SMALL, "space": {"profile": {**SMALL["space"]["profile"], "linear": {"model.topology": "Linear"}}}}
    small.write_text(yaml.safe_dump(changed))
    assert main(["reproduce", "small", "--seeds", "1"]) == 2
    assert "mlruns/studies/small-digits.db" in capsys.readouterr().err
    Path("mlruns/studies/small-digits.db").unlink()
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
        (["small", "--workers", "0"], "--workers 0 must be at least 1"),
        (["small", "--workers", "-3"], "--workers -3 must be at least 1"),
        (["small", "--budget", "nan"], "--budget nan must be a number of minutes above 0"),
        (["small", "--budget", "-1"], "--budget -1 must be a number of minutes above 0"),
        (["small", "--budget", "0"], "--budget 0 must be a number of minutes above 0"),
        (["small", "--budget", "inf"], "--budget inf must be a number of minutes above 0"),
    ],
)
def test_what_cannot_be_is_named(small, workdir, capsys, arguments, message):
    before = sorted(workdir.rglob("*"))
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\1\xff", "conf/reproduce/small.yaml"),
        (b"title: [", "conf/reproduce/small.yaml"),
        (b"- 1\n", "conf/reproduce/small.yaml has no settings"),
        (b"titel: x\n", "titel"),
        ({"seeds": ["one"]}, "conf/reproduce/small.yaml: "),
        ({"space": {"model.lr": {"low": 2, "high": 1}}}, "conf/reproduce/small.yaml: the range from 2 to 1 is empty"),
        ({"seeds": []}, "conf/reproduce/small.yaml: seeds [] is empty"),
        ({"data": {}}, "conf/reproduce/small.yaml: data {} is empty"),
        ({"seeds": [1, 1]}, "none of them twice"),
        ({"seeds": [-1]}, "seed_everything -1 must be an integer from 0 to"),
        ({"space": {"model.sparsity": [0.9, 7]}}, "sparsity 7.0 is not in [0, 1)"),
    ],
)
def test_a_description_that_is_none_is_named(small, workdir, capsys, content, message):
    small.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump({**SMALL, **content}).encode())
    before = sorted(workdir.rglob("*"))
    assert main(["reproduce", "small"]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) <= 3
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize("base", ["trainer: {max_epochs: many}", "model: {lr: 0.1}", "- 1", "\0"])
def test_a_base_that_does_not_say_how_long_is_named(small, workdir, base):
    (workdir / "base.yaml").write_text(base)
    small.write_text(yaml.safe_dump({**SMALL, "data": {"digits": [str(workdir / "base.yaml")]}, "settings": {}}))
    with pytest.raises(SettingError, match=r"base\.yaml"):
        epochs_of(load("small"), "digits")


def test_the_list_shows_titles_as_they_are(small, capsys, monkeypatch):
    monkeypatch.setattr(cost, "estimate_run_seconds", lambda *_: 60.0)  # which would train
    small.write_text(yaml.safe_dump({**SMALL, "title": "[/b] [red]"}))
    assert main(["reproduce", "--list"]) == 0
    assert "[/b] [red]" in capsys.readouterr().out


def test_a_record_that_cannot_be_added_to_is_refused_first(small, workdir, capsys):
    (workdir / RECORD).mkdir(parents=True)
    assert main(["reproduce", "small", "--again"]) == 2
    assert f"{RECORD} is a folder" in capsys.readouterr().err
    assert not (workdir / "mlruns" / "studies").exists()


def test_outside_a_checkout_the_packages_are_known(workdir):
    assert "methods" in names()
    assert load("static").seeds_of("mnist")


SHIPPED = sorted(path for path in (CONF / "reproduce").glob("*.yaml") if path.stem != "plan")


# Every method is built once: half a second each.
MANY = {name: pytest.param(name, marks=pytest.mark.slow) for name in ("methods", "methods-as-published")}


def thinned(values):
    """At most five of the values, or of the names of a group, over all of them."""
    step = -(-len(values) // 5)
    return dict(list(values.items())[::step]) if isinstance(values, dict) else values[::step]


@pytest.mark.parametrize("name", [MANY.get(path.stem, path.stem) for path in SHIPPED])
def test_the_shipped_ones_can_be(name, workdir, monkeypatch):
    monkeypatch.chdir(ROOT)
    reproduction = load(name)
    for data in reproduction.data:
        cells = cells_of(reproduction, data)
        assert len({json.dumps(cell) for cell in cells.values()}) == len(cells)
        assert epochs_of(reproduction, data) > 0
    require(data)
    space = {key: thinned(values) for key, values in reproduction.space.items()}
    narrow = (
        {} if name in NETWORKS else {"model.hidden": [256] * (3 if data == "forest" else 2)}
    )  # a quarter of the time
    reproduction = dataclasses.replace(reproduction, space=space, settings={**reproduction.settings, **narrow})
    cells = cells_of(reproduction, data)
    plan = plan_for(name, reproduction, data)  # which takes seconds: of one data set
    assert plan.tickets.n >= len(cells)  # combinations that are left out have a ticket
    assert plan.config["trainer"]["max_epochs"] == epochs_of(reproduction, data)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_is_explained(path):
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line, f"{path.name}: {line}"


def test_seeds_may_differ_between_data_sets(small):
    content = {**SMALL, "data": {"digits": [str(CONF / "quickstart.yaml")], "mnist": [str(CONF / "mnist_static.yaml")]}}
    small.write_text(yaml.safe_dump({**content, "seeds": {"digits": [1], "mnist": [2, 3]}}))
    reproduction = load("small")
    assert [seed for _, seed in cells_of(reproduction, "digits").values()] == [1, 1]
    assert [seed for _, seed in cells_of(reproduction, "mnist").values()] == [2, 3, 2, 3]
    small.write_text(yaml.safe_dump({**content, "seeds": {"digits": [1]}}))
    with pytest.raises(SettingError, match="seeds are given for digits"):
        load("small")


def test_they_are_found(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert names() == sorted(path.stem for path in SHIPPED)
