"""Files of a lottery."""

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.lottery.files import Level, LotteryFiles, Result


@pytest.fixture
def files(workdir):
    return LotteryFiles("mine")


def test_a_result_is_read_as_it_was_written(files):
    level, result = Level(3, "redraw"), Result("run", "last.ckpt", 7, 0.1 + 0.2, "test/accuracy")
    assert files.read_result(level, "test/accuracy") is None
    files.write_result(level, result)
    assert files.read_result(level, "test/accuracy") == result
    assert files.read_result(Level(3), "test/accuracy") is None
    assert files.read_result(level, "val/accuracy") is None


def test_another_configuration_under_the_same_name_is_refused(files):
    assert files.read_run("digest") is None
    files.write_run("digest", "run")
    assert files.read_run("digest") == "run"
    with pytest.raises(SettingError, match="name 'mine': the lottery of that name has another configuration"):
        files.read_run("other")


def test_two_commands_do_not_run_one_lottery(files):
    with files.lock(), pytest.raises(SettingError, match="'mine' is under way"), LotteryFiles("mine").lock():
        pass
    with files.lock():
        pass


def test_every_level_has_files_of_its_own(files):
    levels = [Level(0), Level(1), Level(10), Level(1, "redraw"), Level(1, "shuffle")]
    paths = [path for level in levels for path in (files.ticket(level), files.log(level))]
    assert len({*paths, files.rewind}) == 2 * len(levels) + 1
