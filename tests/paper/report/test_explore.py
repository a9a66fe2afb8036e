"""Charts to explore: every run is in them, menus show one group at a time, the page needs no network."""

import re
import statistics

import pytest

from psn_lightning.paper.report.explore import explore_page, make_charts
from psn_lightning.paper.report.runs import Runs, late_accuracy
from tests.paper.report.conftest import recorded

METRICS = {"fan_in/ccv": 0.4}


def run(method="rigl", sparsity=0.9, seed=1, accuracy=88.0, data="fashion", reproduction="methods"):
    cell = {"model.sparsity": sparsity, "method": method}
    return recorded(reproduction, data, cell, seed, accuracy, METRICS, [80.0, accuracy - 1, accuracy, accuracy])


@pytest.fixture
def runs():
    return Runs(
        [
            *(run(m, s, seed, 85 + seed + 2 * s) for m in ("rigl", "set") for s in (0.98, 0.9) for seed in (1, 2)),
            run("dense", 0.9),
            run(data="mnist"),
            run(data="mnist", reproduction="static"),
        ]
    )


def test_a_method_is_a_line_of_means_over_the_sparsity(runs):
    figure = make_charts(runs)["Accuracy over sparsity"]
    (line,) = (trace for trace in figure.data if trace.name == "set")
    assert line.x == (0.9, 0.98)
    own = [late_accuracy(r) for r in runs.having({"method": "set", "model.sparsity": 0.98}).all]
    assert line.y[1] == pytest.approx(statistics.fmean(own))
    assert line.error_y.array[1] == pytest.approx(statistics.stdev(own))


def test_a_menu_shows_every_trace_once_and_begins_with_the_first_group(runs):
    for figure in make_charts(runs).values():
        shown = [button.args[0]["visible"] for button in figure.layout.updatemenus[0].buttons]
        assert [sum(column) for column in zip(*shown, strict=True)] == [1] * len(figure.data)
        assert [trace.visible for trace in figure.data] == shown[0]


def test_all_runs_have_a_curve_and_a_point(runs):
    charts = list(make_charts(runs).values())
    assert sum(len(trace.x) for trace in charts[1].data) == len(runs)
    assert len(charts[2].data) == len(runs)
    assert {tuple(trace.y) for trace in charts[2].data} == {
        tuple(100 * v for v in r.accuracies.values()) for r in runs.all
    }


def test_the_page_needs_no_network_and_shows_names_as_text():
    text = explore_page(Runs([run("<b>rigl</b>")]), "A & B")
    assert "A &amp; B" in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', text)
    assert "<b>rigl</b>" not in text.split("</script>", 1)[1]
    assert make_charts(Runs([])) == {}


def test_the_same_runs_give_the_same_page(runs):
    assert explore_page(runs, "title") == explore_page(runs, "title")
