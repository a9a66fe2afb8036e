"""The list of configurations."""

from psn_lightning.cli import main
from psn_lightning.commands.configs import describe
from psn_lightning.commands.shipped import shipped_names
from tests.conftest import CONF


def test_all_are_listed_with_a_line_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["configs"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    for name in shipped_names():
        assert describe(CONF / f"{name}.yaml") in lines[name]


def test_a_description_is_the_first_sentence_of_the_comment(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("# SET (Mocanu et al., 2018):\n# after every epoch. Overlay of any:\n#   psn-train\nmodel: {}\n")
    assert describe(path) == "SET (Mocanu et al., 2018): after every epoch"
    path.write_text("# Does it help? Perhaps.\nmodel: {}\n")
    assert describe(path) == "Does it help?"
    path.write_text("model: {}\n")
    assert describe(path) == ""


def test_arguments_are_refused(capsys):
    assert main(["configs", "quickstart"]) == 2
