"""The analysis plan, and how the report holds the runs to it."""

import dataclasses
import subprocess

import pytest
import yaml

from psn_lightning.errors import SettingError
from psn_lightning.paper.plan import PLAN, find_contradictions, is_planned, load_plan, plan_digest, plan_file
from psn_lightning.paper.reproduction import load, names
from tests.conftest import CONF, ROOT
from tests.paper.report.conftest import recorded


def test_the_shipped_plan_names_experiments_and_data_that_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = load_plan()
    assert plan.digest == plan_digest() != ""
    assert plan.alpha_of_two < plan.alpha
    for claim in plan.claims.values():
        found = set(claim.experiments.values())
        assert found <= set(names())
        assert set(claim.data) <= {data for name in found for data in load(name).data}


def test_reproductions_of_ones_own_without_a_plan(workdir):
    PLAN.parent.mkdir(parents=True)
    assert plan_digest() == ""
    with pytest.raises(SettingError, match=r"plan\.yaml"):
        load_plan()


def test_the_plan_of_the_package_counts_in_any_other_folder(workdir):
    assert plan_file() == CONF / "reproduce" / "plan.yaml"
    assert plan_digest() == load_plan().digest != ""


@pytest.mark.parametrize("content", ["claims: {a: {claim: x}}", "[]", "claims: 3"])
def test_a_file_that_is_not_a_plan(workdir, content):
    PLAN.parent.mkdir(parents=True)
    PLAN.write_text(content)
    with pytest.raises(SettingError, match="is not an analysis plan"):
        load_plan()


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments], check=True, capture_output=True)


def test_a_run_that_names_another_plan_than_its_commit_has(workdir):
    PLAN.parent.mkdir(parents=True)
    PLAN.write_text(yaml.safe_dump({"claims": {}}))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "plan")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    honest = dataclasses.replace(recorded("static", "mnist", {"p": 1}, 1, 98.0, plan=plan_digest()), commit=commit)
    PLAN.write_text(yaml.safe_dump({"claims": {}, "margins": {"accuracy": 9}}))  # changed after the runs
    late = dataclasses.replace(honest, plan=plan_digest())
    assert find_contradictions([honest]) == []
    assert len(find_contradictions([honest, late])) == 1
    assert is_planned(late)
    assert not is_planned(recorded("static", "mnist", {"p": 1}, 1, 98.0))
