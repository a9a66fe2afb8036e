"""Which changes of a resumed run's configuration are refused."""

import pytest

from psn_lightning.checkpoints.differences import check_network, check_same, decisive, find_differences
from psn_lightning.checkpoints.origin import Origin
from psn_lightning.errors import SettingError

CONFIG = {"model.lr": 0.1, "model.sparsity": 0.9, "seed_everything": 1, "trainer.max_epochs": 3, "tracking.uri": None}


def origin(tmp_path):
    return Origin(tmp_path / "last.ckpt", 7, CONFIG, "a" * 32)


def test_settings_that_decide_nothing_are_not_compared():
    assert "tracking.uri" not in decisive(CONFIG)
    assert find_differences(CONFIG, {**CONFIG, "tracking.uri": "x", "trainer.profiler": "simple"}) == {}
    assert find_differences(CONFIG, {**CONFIG, "model.lr": 0.2}) == {"model.lr": (0.1, 0.2)}
    assert find_differences({}, {"model.lr": 0.2}) == {"model.lr": ("(absent)", 0.2)}


def test_a_setting_that_is_new_since_the_checkpoint_is_no_difference_while_it_is_null(tmp_path):
    check_network(origin(tmp_path), {**CONFIG, "model.mixture": None})
    with pytest.raises(SettingError, match=r"model\.mixture\.experts 4, formerly '\(absent\)'"):
        check_network(origin(tmp_path), {**CONFIG, "model.mixture.experts": 4})


def test_a_changed_setting_is_refused_unless_changes_are_allowed(tmp_path):
    now = {**CONFIG, "model.lr": 0.2}
    with pytest.raises(SettingError, match=r"last\.ckpt.* model\.lr 0\.2, formerly 0\.1"):
        check_same(origin(tmp_path), now, allowed=False)
    assert check_same(origin(tmp_path), now, allowed=True) == {"model.lr": (0.1, 0.2)}
    assert check_same(origin(tmp_path), CONFIG, allowed=False) == {}


@pytest.mark.parametrize("key", ["model.sparsity", "model.init_args.sparsity", "seed_everything"])
def test_what_the_checkpoint_determines_cannot_change(key, tmp_path):
    with pytest.raises(SettingError, match=key):
        check_same(origin(tmp_path), {**CONFIG, key: 5}, allowed=True)


def test_another_network_is_not_evaluated(tmp_path):
    check_network(origin(tmp_path), {**CONFIG, "model.lr": 0.2, "seed_everything": 2})
    with pytest.raises(SettingError, match=r"last\.ckpt: model\.sparsity 0\.5, formerly 0\.9"):
        check_network(origin(tmp_path), {**CONFIG, "model.sparsity": 0.5})
