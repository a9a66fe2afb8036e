"""``psn-train reproduce --check``: the runs of a claim once more."""

import re
from pathlib import Path

import pytest
import yaml

from psn_lightning.cli import main
from psn_lightning.paper.plan import PLAN
from psn_lightning.paper.record import RECORD, read
from tests.conftest import CONF, ROOT


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--check", "nothing"], "--check nothing: the claims are static-equal"),
        (["--check", "scale", "--data", "digits"], "--data digits: scale is about mnist"),
        (["--check", "scale", "--seeds", "5"], "--seeds 5: scale has no run"),
        (["--check", "scale", "--workers", "0"], "--workers 0"),
        (["--check", "scale", "--again"], "--check takes"),
    ],
)
def test_what_cannot_be_checked_is_named(arguments, culprit, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["reproduce", *arguments]) == 2
    assert culprit in capsys.readouterr().err
    assert not list(ROOT.glob("results/check-*"))


@pytest.mark.services
def test_a_claim_is_run_again_and_compared(workdir, capfd):
    small = {
        "title": "Two scales",
        "data": {"digits": [str(CONF / "quickstart.yaml")]},
        "settings": {"trainer.max_epochs": 2},
        "space": {
            "profile": {"random": {"model.topology": "Bernoulli"}},
            "scale": {"equation 9": {"model.init": "mean_fan_in"}, "linear": {"model.init": "linear"}},
        },
        "seeds": [1, 2],
    }
    plan = yaml.safe_load((ROOT / PLAN).read_text())
    plan["claims"]["scale"] |= {"experiment": "small", "data": ["digits"]}
    PLAN.parent.mkdir(parents=True)
    PLAN.write_text(yaml.safe_dump(plan))
    PLAN.with_name("small.yaml").write_text(yaml.safe_dump(small))

    assert main(["reproduce", "small"]) == 0
    record = RECORD.read_text()
    capfd.readouterr()
    assert main(["reproduce", "--check", "scale", "--seeds", "2"]) == 0
    assert "scale: 2 runs, about" in capfd.readouterr().out
    assert main(["reproduce", "--check", "scale"]) == 0
    printed = capfd.readouterr().out
    assert "scale: 2 runs, about" in printed  # the other two were repeated before
    assert re.search(r"small +│ digits +│ 4 +│ 4 +│ 4 +│ 0.00", printed)
    assert RECORD.read_text() == record
    repeated = read(Path("results/check-scale.jsonl"))
    assert {key: run.curves for key, run in repeated.items()} == {key: run.curves for key, run in read().items()}
    assert main(["reproduce", "--check", "scale"]) == 0
    assert "scale: 0 runs" in capfd.readouterr().out
