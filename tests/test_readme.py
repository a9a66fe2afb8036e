"""The README is run, not believed."""

import re
import shlex

import pytest

from psn_lightning.cli import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("psn-train fit") or line.startswith("psn-train test")
]


def test_the_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert (scope["fan_in"][0], scope["fan_in"][-1]) == (247, 12)
    assert scope["connectivity"].n_connections == scope["fan_in"].sum()
    for layer in scope["network"].sparse_layers().values():
        assert not layer.weight[~layer.mask].any()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main([*shlex.split(command)[1:], "--print_config"])
    assert stopped.value.code == 0
    assert "class_path: psn_lightning.data" in capsys.readouterr().out


def test_every_path_it_names_exists():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file()
    for path in set(re.findall(r"(?:conf|docs)/[a-z_]+\.(?:yaml|py|png)", README)):
        assert (ROOT / path).is_file()


def test_every_make_target_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in re.findall(r"^make (\w+)", README, re.MULTILINE))
