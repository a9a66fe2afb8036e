"""What a name of a configuration stands for."""

import pytest

from psn_lightning.commands import shipped
from psn_lightning.commands.config_files import locate_configs
from psn_lightning.commands.shipped import find_config, local_or_shipped, shipped_folder, shipped_names
from psn_lightning.errors import SettingError
from tests.conftest import CONF


def test_every_file_has_a_name():
    assert shipped_folder() == CONF
    assert {f"{name}.yaml" for name in shipped_names()} == {str(p.relative_to(CONF)) for p in CONF.rglob("*.yaml")}


def test_an_installed_package_has_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    monkeypatch.setattr(shipped.resources, "files", lambda _: tmp_path)
    assert shipped_folder.__wrapped__() == tmp_path / "conf"


@pytest.mark.parametrize("given", ["rules/set", "pkg:rules/set", "pkg:rules/set.yaml"])
def test_names_and_addresses(given, workdir):
    assert find_config(given) == CONF / "rules" / "set.yaml"


def test_a_file_wins_over_a_name_but_not_over_an_address(workdir):
    (workdir / "quickstart").write_text("model: {lr: 0.1}")
    assert str(find_config("quickstart")) == "quickstart"
    assert find_config("pkg:quickstart") == CONF / "quickstart.yaml"


def test_a_folder_is_no_configuration(workdir):
    (workdir / "quickstart").mkdir()
    assert find_config("quickstart") == CONF / "quickstart.yaml"


@pytest.mark.parametrize("given", ["fashion_rigel", "conf/fashion_rigl.yaml", "pkg:fashion-rigl"])
def test_an_unknown_name_gives_the_nearest(given, workdir):
    with pytest.raises(SettingError, match="fashion_rigl") as raised:
        find_config(given)
    assert given in str(raised.value)


@pytest.mark.parametrize("given", ["", ".", "pkg:", "pkg:../pyproject", "pkg:/etc/passwd", "rules"])
def test_no_way_out_of_the_folder(given, workdir):
    with pytest.raises(SettingError, match="not found"):
        find_config(given)


def test_names_within_a_command_line(workdir):
    (workdir / "own.yaml").write_text("model: {lr: 0.1}")
    given = ["--config", "quickstart", "--config=rules/set", "-c", "own.yaml", "--model.lr", "quickstart", "--config"]
    located = locate_configs(given)
    assert located[1] == str(CONF / "quickstart.yaml")
    assert located[2] == f"--config={CONF / 'rules' / 'set.yaml'}"
    assert located[3:] == given[3:]


def test_a_folder_of_ones_own_wins(workdir):
    assert local_or_shipped("reproduce") == CONF / "reproduce"
    (workdir / "conf" / "reproduce").mkdir(parents=True)
    assert local_or_shipped("reproduce").resolve() == workdir / "conf" / "reproduce"
