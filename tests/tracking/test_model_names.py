"""Names and settings of MLflow models."""

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.tracking.model_names import check_model_names, model_name


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("first", None, None), "tracking.model"),
        (("best", None, "champion"), "tracking.register"),
        (("none", "net", None), "tracking.model"),
        (("best", "a/b", None), "tracking.register"),
        (("best", "", None), "tracking.register"),
        (("best", "net", "v2"), "tracking.alias"),
        (("best", "net", "latest"), "tracking.alias"),
        (("last", "net", "a b"), "tracking.alias"),
    ],
)
def test_impossible_settings(settings, named):
    with pytest.raises(SettingError, match=named):
        check_model_names(*settings)


def test_possible_settings():
    for settings in (
        ("best", None, None),
        ("last", "my net", "champion"),
        ("none", None, None),
        ("best", "a-b_1", "v"),
    ):
        check_model_names(*settings)


def test_names_without_what_mlflow_refuses():
    assert model_name("a/b:c.d%e") == "a-b-c-d-e"
    assert model_name(None) == model_name("") == "model"
