"""Table and figure of a lottery."""

import csv

from psn_lightning.sweeps.lottery.files import Level, Result
from psn_lightning.sweeps.lottery.table import draw_lottery, format_csv, make_rows

RESULTS = {
    level: Result("run", "ckpt", connections, value, "test/accuracy")
    for level, connections, value in [
        (Level(0), 1000, 0.98),
        (Level(1), 800, 0.99),
        (Level(2), 640, 0.97),
        (Level(1, "redraw"), 800, 0.96),
    ]
}


def test_a_row_has_a_ticket_and_its_controls():
    rows = make_rows(RESULTS)
    assert [row.cells() for row in rows] == [
        ["0", "1,000", "100.00%", "0.9800", ""],
        ["1", "800", "80.00%", "0.9900", "0.9600"],
        ["2", "640", "64.00%", "0.9700", ""],
    ]
    header, *table = csv.reader(format_csv(rows).splitlines())
    assert header == ["level", "connections", "left", "test/accuracy", "redraw"]
    assert table[2] == ["2", "640", "0.64", "0.97", ""]


def test_the_figure_has_a_line_for_the_dense_network_and_one_for_each_series():
    (axes,) = draw_lottery(make_rows(RESULTS)).axes
    dense, ticket, redraw = axes.lines
    assert list(dense.get_ydata()) == [0.98, 0.98]
    assert list(ticket.get_xdata()) == [100, 80, 64]
    assert list(redraw.get_xdata()) == [80]
    assert axes.xaxis_inverted()


def test_a_lottery_of_one_fit_can_be_drawn():
    assert draw_lottery(make_rows({Level(0): RESULTS[Level(0)]})).axes
