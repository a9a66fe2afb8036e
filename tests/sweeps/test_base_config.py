import pytest

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.base_config import configuration
from psn_lightning.sweeps.sweep import parse
from tests.conftest import CONF

GRID = {
    "name": "eight",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.topology": ["Uniform", "Exponential"], "model.sparsity": [0.8, 0.9]},
    "settings": {"trainer.max_epochs": 15},
    "sampler": "grid",
}
LOGNORMAL = {"class_path": "Lognormal", "init_args": {"ccv": 9.0}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"model.sparsity": [7]}}, "sparsity 7"),
        ({"space": {"model.topology": ["Uniform", "Bell"], "model.sparsity": [0.8, 0.9, 7]}}, "sparsity 7"),
        ({"space": {"model.sparsity": ["much"]}}, "sparsity"),
        ({"space": {"own": {"sound": {"model.lr": 0.1}, "not": {"model.lr": -1}}}}, "lr -1"),
        ({"space": {"trainer.callbacks.0.init_args.period": [50, 0]}}, "period 0"),
        ({"space": {"seed_everything": [1, -1]}}, "seed_everything -1"),
        ({"space": {"data.init_args.split_seed": [-1]}}, "split_seed -1"),
        ({"space": {"model.sparsty": [0.8]}}, "no setting 'sparsty' there; the nearest is 'sparsity'"),
        ({"settings": {"trainer.max_epochs": None}}, "trainer.max_epochs None"),
        ({"settings": {"trainer.devices": 2}}, "trainer.devices 2"),
        ({"settings": {"trainer.num_nodes": 2}}, "trainer.num_nodes 2"),
        ({"settings": {"trainer.logger": False}}, "trainer.logger false"),
        ({"settings": {"trainer.fast_dev_run": True}}, "trainer.fast_dev_run"),
        ({"settings": {"ckpt_path": "last"}}, "ckpt_path"),
        ({"settings": {"trainer.precision": "16-true"}}, "16-true"),
        ({"settings": {"trainer.limit_train_batches": 0}}, "limit_train_batches 0"),
        (
            {"space": {"model.lr": {"low": -1.0, "high": 1.0}}, "sampler": "random", "trials": 2},
            "lr -1",
        ),
    ],
)
def test_impossible_values_are_named(write, changes, message):
    sweep, _ = parse(["--config", write({**GRID, **changes})])
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        configuration(sweep)
    assert message in str(SettingError.inside(refused.value))


def test_only_values_that_trials_may_have_together_are_tried(write):
    """The base's value of what the space has does not matter, and neither does a CCV out of reach."""
    changes = {
        "settings": {"trainer.max_epochs": 1, "model.sparsity": 7},
        "space": {"model.sparsity": [0.5], "model.topology": ["Uniform", "Bell", LOGNORMAL]},
    }
    sweep, _ = parse(["--config", write({**GRID, **changes})])
    config = configuration(sweep)
    assert config["trainer"]["max_epochs"] == 1
    assert config["trainer"]["devices"] == 1


def test_a_class_of_the_users_own_may_be_a_setting(write, workdir, monkeypatch):
    (workdir / "own_callback.py").write_text(
        "import lightning.pytorch as pl\n\n\nclass Own(pl.Callback):\n"
        "    def __init__(self, number: int) -> None:\n        self.number = number\n"
    )
    monkeypatch.syspath_prepend(workdir)
    own = {"class_path": "own_callback.Own", "init_args": {"number": 3}}
    sweep, _ = parse(["--config", write({**GRID, "settings": {"trainer.callbacks": [own]}})])
    assert configuration(sweep)["trainer"]["callbacks"] == [own]


def test_what_the_users_code_prints_is_no_configuration(write, workdir, monkeypatch):
    (workdir / "loud.py").write_text(
        'import lightning.pytorch as pl\n\nprint("loaded: {x}: [")\n\n\nclass Loud(pl.Callback):\n    pass\n'
    )
    monkeypatch.syspath_prepend(str(workdir))
    changes = {"settings": {"trainer.max_epochs": 1, "trainer.callbacks": [{"class_path": "loud.Loud"}]}}
    sweep, _ = parse(["--config", write({**GRID, **changes})])
    assert configuration(sweep)["trainer"]["callbacks"][0]["class_path"] == "loud.Loud"
