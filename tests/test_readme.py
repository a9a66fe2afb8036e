"""README and the pages for users are run, not believed."""

import re
import shlex

import pytest

from psn_lightning.cli import main
from psn_lightning.paper import reproduce
from psn_lightning.paper.reproduction import load
from psn_lightning.sweeps.sweep import parse
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = README + "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("training", "sweeps", "paper", "gpus"))
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("psn-train fit", "psn-train test"))
]


def test_the_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    layer = scope["layers"]["0"]
    assert layer.connectivity.n_connections == round(0.1 * 784 * 1024)
    assert not layer.parameter[~layer.mask].any()
    assert scope["updater"].step == 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main([*shlex.split(command)[1:], "--print_config"])
    assert stopped.value.code == 0
    assert re.search(r"^data:\n  class_path: (psn_lightning\.data|examples)\.", capsys.readouterr().out, re.MULTILINE)


SWEEPS = re.findall(r"^psn-train sweep (.*?) +#", PAGES, re.MULTILINE)


@pytest.mark.parametrize("command", SWEEPS)
def test_every_sweep_parses(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep, _ = parse(shlex.split(command))
    assert sweep.workers == 2


def test_its_reproductions_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^psn-train reproduce (.*?) *#", PAGES, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        options = reproduce.parser().parse_args(shlex.split(command))
        assert options.list or set(options.data or []) <= set(load(options.name).data)


def test_its_comparisons_parse(client, capsys):
    client.create_experiment("psn_lightning")
    commands = [c.strip() for c in re.findall(r"^psn-train compare(.*?) +#", PAGES, re.MULTILINE)]
    assert len(commands) == 3
    for command in commands:
        assert main(["compare", *shlex.split(command)]) == 2
        assert "no run matches" in capsys.readouterr().err


def test_every_path_it_names_exists():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).is_file()
    for path in set(re.findall(r"(?:conf|docs|docker)/[a-z_/-]+\.(?:yaml|py|png)", PAGES)):
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page):
    for path in re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / path).exists(), path


def test_the_readme_is_short():
    assert len(README.encode()) <= 7168  # what a visitor reads to the end


def test_every_make_target_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"^make (\w+)", README, re.MULTILINE))
