"""Progress of a lottery in the terminal."""

import re

from psn_lightning.sweeps.lottery.display import Display, print_table
from psn_lightning.sweeps.lottery.files import Level
from psn_lightning.sweeps.lottery.settings import Lottery
from tests.sweeps.lottery.test_table import RESULTS


def test_new_results_are_lines_and_earlier_ones_are_not(capsys):
    with Display(Lottery("mine"), 3, 4) as display:
        display.show_result(Level(0), RESULTS, is_new=False)
        display.show_start(Level(1))
        display.show_epoch(1, None)
        display.show_epoch(2, 0.5)
        assert display._progress.tasks[1].description == "level-01, 80.0% left, 0.5000"
        assert display._progress.tasks[1].completed == 2
        display.show_result(Level(1), RESULTS, is_new=True)
        assert display._progress.tasks[0].completed == 2
    printed = capsys.readouterr().out
    assert "level-01: 80.00% left, test/accuracy 0.9900" in printed
    assert "level-00:" not in printed


def test_a_fit_without_a_known_length_has_no_total(capsys):
    for epochs in (None, -1):
        with Display(Lottery("mine"), epochs, 1) as display:
            display.show_start(Level(0))
            assert display._progress.tasks[1].total is None


def test_the_table_has_a_row_for_each_level(capsys):
    print_table(RESULTS)
    printed = capsys.readouterr().out
    assert len(re.findall(r"│ \d ", printed)) == 3
    assert re.search(r"1 .* 800 .* 80\.00% .* 0\.9900 .* 0\.9600", printed)
