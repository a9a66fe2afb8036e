"""docs/ is run, not believed."""

import ast
import re
import shlex

import numpy as np
import pytest
import yaml

from psn_lightning.cli import main
from psn_lightning.sweeps.lottery.settings import configuration, parse
from psn_lightning.sweeps.lottery.settings import parser as lottery_parser
from tests.conftest import CONF, QUIET, ROOT, only_run

DOCS = ROOT / "docs"
DYNAMICS = (DOCS / "dynamics.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", DYNAMICS + (DOCS / "pruning.md").read_text(), re.DOTALL)
    for line in block.splitlines()
    if "soft.yaml" not in line
]
PAGES = ("library.md", "lottery.md", "migration.md", "data.md", "pruning.md")


def block(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", DYNAMICS, re.DOTALL)
    return code


def blocks(page, language):
    """Blocks of a page; ``python`` are ours and run, ``python theirs`` are another package's lines."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_a_rule_of_ones_own_by_class_path(workdir, client, monkeypatch):
    (workdir / "my_rules.py").write_text(block("python"))
    (workdir / "soft.yaml").write_text(block("yaml"))
    monkeypatch.syspath_prepend(str(workdir))
    few = ["--trainer.max_epochs=10", "--trainer.callbacks.init_args.schedule.init_args.period=20"]
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), "--config", "soft.yaml", *QUIET, *few]) == 0
    run = only_run(client)
    assert run.data.tags["rule"] == "SoftRigL"
    assert run.data.metrics["topology/overlap_with_initial/fc1"] < 0.95
    history = client.get_metric_history(run.info.run_id, "sparsity/realised")
    assert np.ptp([m.value for m in history]) < 1e-6
    assert run.data.params["trainer.callbacks.0.init_args.rule.init_args.temperature"] == "0.5"


def test_the_rule_is_about_twenty_lines():
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main([*shlex.split(command)[1:], "--print_config"])
    assert stopped.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]


def test_every_overlay_it_names_exists():
    assert all((ROOT / path).is_file() for path in re.findall(r"conf/[a-z_/]+\.yaml", DYNAMICS))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_pasted_and_prints_what_it_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")  # a page may call seed_everything, which leaves it there
    scope = {"__name__": "__main__"}
    for code in blocks(page, "python"):
        exec(compile(code, page, "exec"), scope)
    printed = _without_trailing_spaces(capsys.readouterr().out)
    assert all(_without_trailing_spaces(shown) in printed for shown in blocks(page, "text"))


def _without_trailing_spaces(text):
    return "\n".join(line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_lines_of_other_packages_are_python(page):
    for code in blocks(page, "python theirs"):
        ast.parse(code)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_it_links_to_exists(page):
    links = re.findall(r"\]\(([\w/.]+)(?:#[\w-]+)?\)", (DOCS / page).read_text())
    assert all((DOCS / link).is_file() for link in links)


def test_the_command_on_data_of_ones_own_parses(workdir, monkeypatch, capsys):
    (workdir / "my_data.py").write_text(blocks("data.md", "python")[0])
    monkeypatch.syspath_prepend(str(workdir))
    (command,) = blocks("data.md", "bash")
    with pytest.raises(SystemExit) as stopped:
        main([*shlex.split(command)[1:], "--print_config"])
    assert stopped.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["class_path"] == "my_data.Blobs"


@pytest.mark.parametrize("command", [line for block in blocks("lottery.md", "bash") for line in block.splitlines()])
def test_every_lottery_parses(command, workdir, monkeypatch):
    monkeypatch.chdir(ROOT)
    lottery, others = parse(shlex.split(command)[2:])
    assert lottery.name in {"lenet", "late", "controls", "once"}
    assert configuration(others)["model"]["sparsity"] == 0


def test_the_options_of_a_lottery_are_those_of_the_page():
    named = re.findall(r"^\| `--([a-z-]+)` \|", (DOCS / "lottery.md").read_text(), re.MULTILINE)
    options = [action.option_strings[-1].removeprefix("--") for action in lottery_parser()._actions]
    assert named == [option for option in options if option != "help"]
