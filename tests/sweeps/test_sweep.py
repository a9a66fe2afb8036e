from argparse import ArgumentError

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.sweep import Range, parse
from tests.conftest import CONF

SEARCH = {
    "name": "small",
    "base": [str(CONF / "quickstart.yaml")],
    "space": {"model.lr": {"low": 0.001, "high": 0.01, "log": True}, "model.sparsity": [0.8, 0.9]},
    "trials": 5,
}


@pytest.fixture
def read(write):
    def parsed(changes, *arguments):
        return parse(["--config", write({**SEARCH, **changes}), *arguments])

    return parsed


def test_files_and_arguments_make_a_sweep(read):
    sweep, _ = read({}, "--trials", "7", "--seeds", "[1, 2]")
    assert sweep.space == {"model.lr": Range(0.001, 0.01, log=True), "model.sparsity": [0.8, 0.9]}
    assert (sweep.trials, sweep.seeds, sweep.sampler, sweep.pruner) == (7, [1, 2], "tpe", None)


def test_its_text_makes_the_same_sweep(read, tmp_path):
    pruner = {"class_path": "optuna.pruners.HyperbandPruner", "init_args": {"min_resource": 2}}
    sweep, text = read({"pruner": pruner, "seeds": [3]})
    (tmp_path / "again.yaml").write_text(text)
    again, text_again = parse(["--config", str(tmp_path / "again.yaml")])
    assert text == text_again
    assert (again.space, again.seeds, type(again.pruner)) == (sweep.space, sweep.seeds, type(sweep.pruner))


def test_class_paths_stay_text_until_a_run_creates_the_object(read):
    """A short name was always kept; a full path became an object, which no run's parser takes."""
    wide = {"class_path": "psn_lightning.topology.Lognormal", "init_args": {"ccv": 2.0}}
    sweep, text = read({"space": {"model.topology": ["Uniform", wide]}, "settings": {"model.topology": wide}})
    assert sweep.space == {"model.topology": ["Uniform", wide]}
    assert sweep.settings == {"model.topology": wide}
    assert "psn_lightning.topology.Lognormal" in text


@pytest.mark.parametrize("name", ["a", "small-digits-again-20261124", "v1.0_b", "Größe 3", "n" * 100])
def test_usual_names_may_be(read, name):
    assert read({"name": name})[0].name == name


def test_passwords_stay_out_of_the_text(read):
    settings = {"tracking.uri": "postgresql+psycopg://me:secret@host/mlflow"}
    sweep, text = read({"settings": settings}, "--storage", "postgresql+psycopg://me:secret@host/optuna")
    assert "secret" in sweep.storage
    assert sweep.settings == settings
    assert "secret" not in text
    assert "postgresql+psycopg://me:***@host/optuna" in text
    assert "postgresql+psycopg://me:***@host/mlflow" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"model.lr": {"low": 2, "high": 1}}}, "the range from 2 to 1 is empty"),
        ({"space": {"model.lr": {"low": 0, "high": 1, "log": True}}}, "the range from 0 to 1 has no logarithm"),
        ({"space": {}}, "a sweep needs a base"),
        ({"space": {"model.sparsity": []}}, "space model.sparsity: [] must list at least one value"),
        ({"space": {"model.sparsity": [0.9, 0.9]}}, "none of them twice"),
        ({"name": "it's"}, "must be a word"),
        ({"name": ""}, "must be a word"),
        ({"name": ".."}, "name '..' of the study must be a word"),
        ({"name": "a\nb"}, "must be a word"),
        ({"name": "a\0b"}, "must be a word"),
        ({"name": "n" * 400}, "at most 100 bytes"),
        ({"name": "ü" * 60}, "at most 100 bytes"),
        ({"seeds": []}, "seeds []: give one at least"),
        ({"seeds": [-1]}, "seeds [-1] must be numbers from 0 to 4294967295"),
        ({"seeds": [2**32]}, "seeds [4294967296] must be numbers from 0 to 4294967295"),
        ({"seeds": [1, 1]}, "seeds [1, 1] must be numbers from 0 to 4294967295, none of them twice"),
        ({"retrain_seeds": [-1]}, "retrain_seeds [-1] must be"),
        ({"retrain_seeds": [2, 2]}, "retrain_seeds [2, 2] must be"),
        ({"seeds": [2, 3], "retrain_seeds": [3, 4]}, "retrain_seeds [3] are those that the search has seen"),
        ({"space": {"seed_everything": [5, 6]}, "retrain_seeds": [6]}, "retrain_seeds [6] are those"),
        ({"objective": "val_loss", "retrain_seeds": [7]}, "has to be val/"),
        (
            {"space": {"model.lr": [0.1], "kind": {"a": {"model.lr": 0.2}, "b": {}}}},
            "both set model.lr",
        ),
        ({"trials": 0}, "trials 0 must be at least 1"),
        ({"workers": 0}, "workers 0 must be at least 1"),
        ({"retries": -1}, "retries -1 must be at least 0"),
        ({"trials": None}, "sampler tpe needs the number of trials"),
        ({"sampler": "grid"}, "space model.lr: sampler grid takes lists of values, not a range"),
        ({"sampler": "grid", "space": {"model.sparsity": [0.9]}}, "trials 5: sampler grid has one trial per"),
        ({"objective": "test/accuracy"}, "a search would choose by the test set"),
        ({"seeds": [1], "space": {"seed_everything": [1, 2]}}, "seeds and space seed_everything"),
        ({"launcher": "slurm"}, "launcher slurm needs a storage that the nodes reach"),
        ({"slurm": {"timeout_min": 5}}, "slurm {'timeout_min': 5}"),
    ],
)
def test_impossible_values_are_named(read, changes, message):
    with pytest.raises((ValueError, ArgumentError)) as refused:
        read(changes)
    assert message in str(SettingError.inside(refused.value))
