"""Overlays as members of a group: what they become is what the command line makes of the same files."""

import pytest
import yaml

from psn_lightning.cli import main
from psn_lightning.errors import SettingError
from psn_lightning.paper.overlays import settings_of
from psn_lightning.paper.reproduction import cells_of, load, space_of
from psn_lightning.sweeps.space import apply_settings, decode_settings
from tests.conftest import CONF, ROOT

TAIL = {"class_path": "psn_lightning.paper.TailEvaluation"}


def test_later_ones_win_and_common_callbacks_follow(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "model: {sparsity: 0.0, topology: Uniform}\ntrainer: {callbacks: [{class_path: SET}]}"
    )
    (tmp_path / "b.yaml").write_text("trainer: {callbacks: [{class_path: RigL}], max_epochs: 3}")
    topology = {"class_path": "Lognormal", "init_args": {"ccv": 1.0}}
    found = settings_of(["a.yaml", "b.yaml", {"model.topology": topology}], {"trainer.callbacks": [TAIL]}, tmp_path)
    assert found == {
        "model.sparsity": 0.0,
        "model.topology": topology,
        "trainer.callbacks": [{"class_path": "RigL"}, TAIL],
        "trainer.max_epochs": 3,
    }
    assert list(found)[-1] == "model.topology"  # in the order in which they are given
    assert settings_of([{"model.lr": 1.0}], {"trainer.callbacks": [TAIL]}, tmp_path) == {"model.lr": 1.0}


def test_a_setting_of_an_earlier_overlays_callback_can_be_changed(tmp_path):
    (tmp_path / "a.yaml").write_text("trainer: {callbacks: [{class_path: GMP, init_args: {final_sparsity: 0.9}}]}")
    member = settings_of(["a.yaml", {"trainer.callbacks.0.init_args.final_sparsity": "{model.sparsity}"}], {}, tmp_path)
    settings = decode_settings(
        {"model.sparsity": 0.98, "method": "gmp"}, {"model.sparsity": [0.98], "method": {"gmp": member}}
    )
    config = apply_settings({"model": {"sparsity": 0.5}, "trainer": {"callbacks": None}}, settings)
    assert config["model"]["sparsity"] == 0.98
    assert config["trainer"]["callbacks"][0]["init_args"] == {"final_sparsity": 0.98}


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"config file not found: .*none\.yaml"):
        settings_of(["none.yaml"], {}, tmp_path)


@pytest.fixture(scope="module")
def methods():
    return load_in_checkout()


def load_in_checkout():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return load("methods")


def test_combinations_that_are_left_out_are_no_cells(methods):
    cells = [cell for cell, _ in cells_of(methods, "fashion").values()]
    n_sparsities, n_methods = len(methods.space["model.sparsity"]), len(methods.space["method"])
    left_out = sum(len(one["method"]) * len(one["model.sparsity"]) for one in methods.left_out)
    assert len(cells) == (n_sparsities * n_methods - left_out) * len(methods.seeds)
    assert {cell["model.sparsity"] for cell in cells if cell["method"] == "dense"} == {0.9}
    assert 0.99 not in {cell["model.sparsity"] for cell in cells if cell["method"] == "rigl equilibrium"}


def test_every_method_ends_at_the_sparsity_of_its_cell(methods, monkeypatch):
    """The one number that the whole comparison hangs on."""
    monkeypatch.chdir(ROOT)
    base = yaml.safe_load((CONF / "fashion_static.yaml").read_text())
    base["trainer"]["callbacks"] = None
    base = apply_settings(base, methods.settings)
    space = space_of(methods, "fashion")
    for cell, _ in cells_of(methods, "fashion").values():
        config = apply_settings(base, decode_settings(cell, space))
        ends = [config["model"]["sparsity"]]
        for callback in config["trainer"]["callbacks"]:
            arguments = callback.get("init_args", {})
            ends += [arguments[key] for key in ("sparsity", "final_sparsity") if key in arguments]
        assert ends[-1] == (0.0 if cell["method"] == "dense" else cell["model.sparsity"])
        assert len(ends) == 1 or ends[0] < ends[-1]  # starts denser
        assert config["trainer"]["callbacks"][-1]["class_path"] == TAIL["class_path"]
        assert config["trainer"]["max_epochs"] == 20
        own = cell["method"] == "eoi"  # which brings its weights
        assert config["model"]["init"] == ("mean_fan_in" if own else "linear")


def test_a_left_out_setting_that_the_space_lacks_is_named(workdir):
    path = workdir / "conf" / "reproduce" / "small.yaml"
    path.parent.mkdir(parents=True)
    content = {
        "title": "One",
        "data": {"digits": [str(CONF / "quickstart.yaml")]},
        "space": {"model.sparsity": [0.9, 0.8]},
        "seeds": [1],
        "left_out": [{"sparsity": [0.9]}],
    }
    path.write_text(yaml.safe_dump(content))
    assert main(["reproduce", "small"]) == 2
