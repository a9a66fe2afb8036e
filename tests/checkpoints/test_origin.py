"""What a checkpoint says of its run, and which changes of the configuration are refused."""

import pytest
import torch

from psn_lightning import __version__
from psn_lightning.checkpoints.origin import (
    KEY,
    DamagedError,
    Origin,
    check_network,
    check_same,
    check_state,
    decisive,
    find_differences,
    read_origin,
)
from psn_lightning.errors import SettingError

CONFIG = {"model.lr": 0.1, "model.sparsity": 0.9, "seed_everything": 1, "trainer.max_epochs": 3, "tracking.uri": None}


def origin(tmp_path):
    return Origin(tmp_path / "last.ckpt", 7, CONFIG, "a" * 32)


def test_settings_that_decide_nothing_are_not_compared():
    assert "tracking.uri" not in decisive(CONFIG)
    assert find_differences(CONFIG, {**CONFIG, "tracking.uri": "x", "trainer.profiler": "simple"}) == {}
    assert find_differences(CONFIG, {**CONFIG, "model.lr": 0.2}) == {"model.lr": (0.1, 0.2)}
    assert find_differences({}, {"model.lr": 0.2}) == {"model.lr": ("(absent)", 0.2)}


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


def test_a_checkpoint_of_another_program_has_no_origin(tmp_path):
    torch.save({"state_dict": {}, "global_step": 3}, tmp_path / "x.ckpt")
    assert read_origin(tmp_path / "x.ckpt", weights_only=True) is None


def test_a_later_version_is_refused(tmp_path):
    own = {"config": "{}", "run_id": None, "version": "99.0"}
    torch.save({"state_dict": {}, "global_step": 3, KEY: own}, tmp_path / "x.ckpt")
    with pytest.raises(SettingError, match=rf"x\.ckpt .*99\.0.*{__version__}"):
        read_origin(tmp_path / "x.ckpt", weights_only=True)


WHOLE = {
    "state_dict": {}, "callbacks": {}, "loops": {"fit_loop": {}}, "optimizer_states": [{"state": {}}],
    "lr_schedulers": [], "epoch": 0, "pytorch-lightning_version": "2.6.4",
}  # fmt: skip


@pytest.mark.parametrize("key", WHOLE)
def test_a_missing_entry_is_named(key, tmp_path):
    check_state(tmp_path, WHOLE, goes_on=True)
    with pytest.raises(DamagedError, match=key):
        check_state(tmp_path, {k: v for k, v in WHOLE.items() if k != key}, goes_on=True)
