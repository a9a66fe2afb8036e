import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.space import apply_settings, combinations, decode_settings, describe_params, suggest_settings
from psn_lightning.sweeps.sweep import Range

VALUES = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-1, 1),
    st.sampled_from(["Uniform", "a: b", ""]),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from(["class_path", "ccv"]), st.integers(), max_size=2),
)
SPACES = st.dictionaries(
    st.sampled_from(["model.a", "model.b", "data.c"]), st.lists(VALUES, min_size=1, max_size=4, unique_by=repr)
)


@given(SPACES)
def test_every_combination_is_there_once_and_comes_back_whole(space):
    cells = [decode_settings(cell, space) for cell in combinations(space)]
    expected = 1
    for values in space.values():
        expected *= len(values)
    assert len(cells) == len({repr(cell) for cell in cells}) == expected
    for cell in cells:
        assert list(cell) == list(space)
        assert all(any(repr(value) == repr(v) for v in space[key]) for key, value in cell.items())


def test_the_last_setting_changes_fastest():
    assert combinations({"a": [1, 2], "b": [3, 4]}) == [
        {"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4},
    ]  # fmt: skip


def test_optuna_draws_what_the_space_says():
    topology = {"class_path": "Lognormal", "init_args": {"ccv": 2.0}}
    space = {"n": Range(1, 3), "lr": Range(1e-4, 1e-2, log=True), "x": Range(0, 0.5), "topology": [topology]}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest_settings(study.ask(), space) for _ in range(30)]
    assert {settings["n"] for settings in drawn} == {1, 2, 3}
    assert all(1e-4 <= settings["lr"] <= 1e-2 and 0 <= settings["x"] <= 0.5 for settings in drawn)
    assert sum(settings["lr"] < 1e-3 for settings in drawn) > 8  # half of them, where the logarithm is even
    assert all(settings["topology"] == topology for settings in drawn)


def test_a_groups_settings_may_name_another_setting_of_the_trial():
    member = {"trainer.callbacks": [{"class_path": "GMP", "init_args": {"final_sparsity": "{model.sparsity}"}}]}
    space = {"model.sparsity": [0.9], "model.topology": [{"class_path": "Bell"}], "method": {"gmp": member}}
    member |= {"model.topology": "{model.topology}", "tracking.note": "{data} and {model.sparsity}"}
    (cell,) = (decode_settings(cell, space) for cell in combinations(space))
    assert cell["trainer.callbacks"][0]["init_args"] == {"final_sparsity": 0.9}
    assert cell["model.topology"] == {"class_path": "Bell"}
    assert cell["tracking.note"] == "{data} and {model.sparsity}"  # a text that is more than a name stays
    assert "{model.sparsity}" in member["trainer.callbacks"][0]["init_args"].values()


CONFIG = {"model": {"sparsity": 0.9, "hidden": [64, 32]}, "trainer": {"callbacks": [{"init_args": {"period": 100}}]}}


def test_settings_replace_values_and_leave_the_configuration_alone():
    changed = apply_settings(CONFIG, {"model.sparsity": 0.8, "trainer.callbacks.0.init_args.period": 5})
    assert changed["model"] == {"sparsity": 0.8, "hidden": [64, 32]}
    assert changed["trainer"]["callbacks"][0]["init_args"]["period"] == 5
    assert CONFIG["model"]["sparsity"] == 0.9


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.sparsty", "no setting 'sparsty' there; the nearest is 'sparsity'"),
        ("modle.sparsity", "the nearest is 'model'"),
        ("model.zzz", "there are sparsity, hidden"),
        ("model.sparsity.low", "no setting 'low' there; there are none"),
        ("trainer.callbacks.1.init_args.period", "the list has 1 entries, '1' is not the number"),
        ("model.hidden.first", "the list has 2 entries, 'first' is not the number"),
    ],
)
def test_an_unknown_setting_is_named_with_the_nearest(key, message):
    with pytest.raises(SettingError) as refused:
        apply_settings(CONFIG, {key: 1})
    assert str(refused.value).startswith(f"{key}: ")
    assert message in str(refused.value)


def test_settings_in_a_few_words():
    settings = {"model.topology.init_args.offset": -0.4000001, "model.topology": {"class_path": "Bell"}, "x": None}
    assert describe_params(settings) == "offset -0.4, topology Bell, x None"


def test_a_group_changes_several_settings_by_one_name():
    space = {"row": {"dense": {"model.sparsity": 0.0}, "bell": {"model.topology": "Bell"}}, "seed_everything": [1]}
    cells = combinations(space)
    assert cells == [{"row": "dense", "seed_everything": 1}, {"row": "bell", "seed_everything": 1}]
    assert decode_settings(cells[1], space) == {"model.topology": "Bell", "seed_everything": 1}
    assert describe_params(cells[1]) == "row bell, seed_everything 1"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(cells[0])
    assert suggest_settings(study.ask(), space) == {"model.sparsity": 0.0, "seed_everything": 1}


def test_classes_are_told_apart_by_their_arguments():
    values = [{"class_path": "Lognormal", "init_args": {"ccv": ccv}} for ccv in (1.0, 2.0)]
    labels = [describe_params(cell) for cell in combinations({"model.topology": values})]
    assert labels == ["topology Lognormal(ccv 1)", "topology Lognormal(ccv 2)"]
