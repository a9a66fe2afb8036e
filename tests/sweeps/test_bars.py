"""Progress bars with lines above them."""

from psn_lightning.sweeps.bars import Bars


def test_a_line_is_printed_as_it_is_and_the_bars_end_with_the_context(capsys):
    with Bars() as bars:
        bar = bars._progress.add_task("all", total=2)
        bars.print_line("[bold] level-01: " + 40 * "long ")
        bars._progress.update(bar, advance=1)
        assert bars._progress.live.is_started
    assert not bars._progress.live.is_started
    assert "[bold] level-01: " + 40 * "long " in capsys.readouterr().out
