"""Tickets as files: made once, and again if they are missing."""

from dataclasses import replace

import pytest

from psn_lightning.checkpoints.lottery import count_connections, count_kept
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.lottery.files import Level
from psn_lightning.sweeps.lottery.tickets import load, prepare_ticket
from tests.faults.running import assert_equal

N = 64 * 24, 24 * 16


@pytest.mark.parametrize("level", [Level(2), Level(2, "redraw"), Level(2, "shuffle")])
def test_a_ticket_that_is_lost_is_made_again_the_same(lottery, level):
    path = lottery.files.ticket(level)
    before = load(path, True)
    path.unlink()
    assert prepare_ticket(lottery.lottery, lottery.config, level) == path
    assert_equal(load(path, True), before)


def test_one_shot_prunes_the_share_of_all_levels_at_once(lottery, monkeypatch):
    one_shot = replace(lottery.lottery, one_shot=True, levels=4, scope="network")
    path = lottery.files.folder / "once.ckpt"
    monkeypatch.setattr(type(lottery.files), "ticket", lambda self, level: path)
    prepare_ticket(one_shot, lottery.config, Level(1))
    assert count_connections(load(path, True)) == count_kept(sum(N), 0.3, 4)
    path.unlink()


def test_a_checkpoint_that_is_missing_is_named(lottery, tmp_path):
    with pytest.raises(SettingError, match=r"x\.ckpt of the lottery is missing"):
        load(tmp_path / "x.ckpt", True)
