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
MIXTURES = re.findall(r"^psn-train .*$", (DOCS / "mixture.md").read_text(), re.MULTILINE)
PAGES = (
    "library.md",
    "migration.md",
    "data.md",
    "pruning.md",
    "wirings.md",
    "groups.md",
    "mixture.md",
    "methods.md",
    "lottery.md",
)


def block(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", DYNAMICS.split("## A rule of your own")[1], re.DOTALL)
    return code


def blocks(page, language):
    """Blocks of a page; ``python`` are ours and run, ``python theirs`` are another package's lines."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_a_rule_held_to_a_structure(workdir, client):
    (code,) = re.findall(r"```yaml\n(.*?)```", DYNAMICS.split("## Structures")[1].split("##")[0], re.DOTALL)
    (workdir / "held.yaml").write_text(code)
    start = ["--model.sparsity=0.5", "--model.allocation=uniform", "--model.topology=Uniform"]
    assert (
        main(
            [
                "fit",
                "--config",
                str(CONF / "quickstart.yaml"),
                "--config",
                "held.yaml",
                *QUIET,
                *start,
                "--trainer.max_epochs=8",
            ]
        )
        == 0
    )
    run = only_run(client)
    assert run.data.tags["rule"] == "NMRule"
    assert run.data.metrics["fan_in/ccv"] == 0  # two of every four
    assert run.data.metrics["topology/overlap_with_initial/fc1"] < 1


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


@pytest.mark.parametrize("command", MIXTURES)
def test_every_command_on_mixtures_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main([*shlex.split(command)[1:], "--print_config"])
    assert stopped.value.code == 0
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    assert model.get("init_args", model)["mixture"]["experts"] in {8, 16, 20, 40}


def test_every_test_that_the_page_on_mixtures_names_exists():
    names = re.findall(r"`(?:tests/\w+\.py::)?(test_\w+)", (DOCS / "mixture.md").read_text())
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(names) > 10
    assert [name for name in names if f"def {name}" not in sources] == []


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


METHODS = (DOCS / "methods.md").read_text()


def test_the_catalogue_has_every_method_of_the_comparison():
    methods = yaml.safe_load((CONF / "reproduce" / "methods.yaml").read_text())["space"]["method"]
    assert [method for method in methods if f"\n| {method} | " not in METHODS] == []


def test_every_test_and_overlay_that_the_catalogue_names_exists():
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", METHODS)
    assert named
    assert [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text()] == []
    assert all((ROOT / path).is_file() for path in re.findall(r"conf/[\w/]+\.yaml", METHODS))


def test_the_command_on_data_of_ones_own_runs(workdir, monkeypatch, client):
    (workdir / "my_data.py").write_text(blocks("data.md", "python")[0])
    monkeypatch.syspath_prepend(str(workdir))
    (command,) = blocks("data.md", "bash")
    assert main([*shlex.split(command)[1:], *QUIET]) == 0
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["data.class_path"] == "my_data.Blobs"


def test_a_wiring_of_ones_own_by_class_path(workdir, client, monkeypatch):
    (code,), (overlay,) = blocks("wirings.md", "python"), blocks("wirings.md", "yaml")
    (workdir / "my_wirings.py").write_text(code)
    (workdir / "image.yaml").write_text(overlay)
    monkeypatch.syspath_prepend(str(workdir))
    few = ["--trainer.max_epochs=1", "--trainer.callbacks=[]", "--trainer.limit_val_batches=1"]
    arguments = ["fit", "--config", str(CONF / "quickstart.yaml"), "--config", "image.yaml", *QUIET, *few]
    assert main(arguments) == 0
    run = only_run(client)
    assert run.data.metrics["sparsity/realised"] == pytest.approx(0.9, abs=1e-5)
    assert run.data.params["model.topology.init_args.blur"] == "2.0"
    assert main(["test", *arguments[1:], "--ckpt_path", "last"]) == 0


def test_the_wiring_is_about_ten_lines():
    (code,) = blocks("wirings.md", "python")
    (method,) = [node for node in ast.walk(ast.parse(code)) if getattr(node, "name", "") == "connect"]
    assert len(ast.unparse(method).splitlines()) <= 10


def test_every_command_on_a_wiring_parses(workdir, monkeypatch, capsys):
    (workdir / "my_wirings.py").write_text(blocks("wirings.md", "python")[0])
    (workdir / "image.yaml").write_text(blocks("wirings.md", "yaml")[0])
    (workdir / "conf").symlink_to(CONF)
    monkeypatch.syspath_prepend(str(workdir))
    given = [line for block in blocks("wirings.md", "bash") for line in block.splitlines()]
    for command in given:
        with pytest.raises(SystemExit) as stopped:
            main([*shlex.split(command)[1:], "--print_config"])
        assert stopped.value.code == 0
        assert "class_path: " in capsys.readouterr().out
    assert len(given) == 4


def test_every_wiring_is_on_the_page():
    page = (DOCS / "wirings.md").read_text()
    overlays = {path.stem for path in (CONF / "wirings").glob("*.yaml")}
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \| .* \|$", page, re.MULTILINE)) >= overlays
    tests = re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)`", page)
    assert len(tests) >= 10
    assert all((ROOT / t if "/" in t else ROOT / "tests" / "topology" / "wirings" / t).is_file() for t in tests)


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
