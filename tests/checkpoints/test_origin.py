"""What a checkpoint says of its run."""

import zipfile

import pytest
import torch

from psn_lightning import __version__
from psn_lightning.checkpoints.origin import KEY, DamagedError, check_state, read_origin
from psn_lightning.errors import SettingError


def test_a_checkpoint_of_another_program_has_no_origin(tmp_path):
    torch.save({"state_dict": {}, "global_step": 3}, tmp_path / "x.ckpt")
    assert read_origin(tmp_path / "x.ckpt", weights_only=True) is None


def test_a_later_version_is_refused(tmp_path):
    own = {"config": "{}", "run_id": None, "version": "99.0"}
    torch.save({"state_dict": {}, "global_step": 3, KEY: own}, tmp_path / "x.ckpt")
    with pytest.raises(SettingError, match=rf"x\.ckpt .*99\.0.*{__version__}"):
        read_origin(tmp_path / "x.ckpt", weights_only=True)


def test_a_pickle_that_is_none_is_damage_and_no_object(tmp_path):
    """Its checksum may be right: a bit that is turned in the archive's directory sends the reader elsewhere."""
    torch.save({"state_dict": {}, "global_step": 3}, tmp_path / "whole.ckpt")
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, zipfile.ZipFile(path, "w") as file:
        for name in whole.namelist():
            file.writestr(name, b"\x80\x02\x90." if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(DamagedError, match=r"x\.ckpt"):
        read_origin(path, weights_only=True)


WHOLE = {
    "state_dict": {}, "callbacks": {}, "loops": {"fit_loop": {}}, "optimizer_states": [{"state": {}}],
    "lr_schedulers": [], "epoch": 0, "pytorch-lightning_version": "2.6.4",
}  # fmt: skip


@pytest.mark.parametrize("key", WHOLE)
def test_a_missing_entry_is_named(key, tmp_path):
    check_state(tmp_path, WHOLE, goes_on=True)
    with pytest.raises(DamagedError, match=key):
        check_state(tmp_path, {k: v for k, v in WHOLE.items() if k != key}, goes_on=True)
