"""Page of charts to explore: accuracy over sparsity and over fan-in CCV, and the curves of all runs; works offline."""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.offline import get_plotlyjs

from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.methods import DENSE, EXPERIMENT, METHOD, SPARSITY
from psn_lightning.paper.report.runs import Runs, accuracy, late_accuracy

_COLOURS = qualitative.Safe  # colour-blind safe
_DASHES = ("solid", "dash", "dot", "dashdot")
_CCV = "fan_in/ccv"
_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><script>{script}</script>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem }}</style>
</head><body><h1>{title}</h1>
<p>Click a name to hide it, double-click to see it alone; drag to enlarge; the menu chooses the runs.</p>
{charts}
</body></html>
"""

Group = tuple[str, Sequence[go.Scatter]]
"""Entry of a chart's menu, and its traces."""


def explore_page(runs: Runs, title: str) -> str:
    """Make an HTML page with interactive charts; it contains plotly, some 5 MB, and needs no network.

    Args:
        runs: Recorded runs.
        title: Title of the page.
    """
    charts = [
        f"<h2>{name}</h2>\n{_format(figure, f'chart-{number}')}"
        for number, (name, figure) in enumerate(make_charts(runs).items())
    ]
    return _PAGE.format(title=html.escape(title), script=get_plotlyjs(), charts="\n".join(charts))


def _format(figure: go.Figure, name: str) -> str:
    """Format a chart; plotly would give it a random name, and two pages of the same runs would differ."""
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}, div_id=name)
    return text


def make_charts(runs: Runs) -> dict[str, go.Figure]:
    """Make the charts by title; those without runs are left out.

    Args:
        runs: Recorded runs.
    """
    groups = {
        "Accuracy over sparsity": ("sparsity", list(_sparsity_groups(runs))),
        "Accuracy over fan-in CCV, one point for each run": ("fan-in CCV at the end", list(_ccv_groups(runs))),
        "Curves of runs": ("epoch", list(_curve_groups(runs))),
    }
    return {title: _draw(x, found) for title, (x, found) in groups.items() if found}


def _sparsity_groups(runs: Runs) -> Iterator[Group]:
    """Accuracy of every method over the sparsity, by data set: means, with the standard deviation over the seeds."""
    for data in runs.of(EXPERIMENT).data():
        own, traces = runs.of(EXPERIMENT, data), []
        for place, method in enumerate(own.values(METHOD)):
            cells = own.having({METHOD: method})
            points = {s: [late_accuracy(r) for r in cells.having({SPARSITY: s}).all] for s in cells.values(SPARSITY)}
            found = sorted(points.items())
            traces.append(
                go.Scatter(
                    x=[sparsity for sparsity, _ in found],
                    y=[statistics.fmean(values) for _, values in found],
                    error_y={"array": [statistics.stdev(v) if len(v) > 1 else 0.0 for _, v in found]},
                    text=[f"n = {len(values)}" for _, values in found],
                    name=html.escape(str(method)),
                    mode="markers" if method == DENSE else "lines+markers",
                    line=_style(place),
                )
            )
        yield own.dataset(), traces


def _ccv_groups(runs: Runs) -> Iterator[Group]:
    """Accuracy of every run over the fan-in CCV of its last masks, by data set; a colour for each reproduction."""
    for data in runs.data():
        traces = []
        for place, reproduction in enumerate(sorted({run.reproduction for run in runs.all})):
            found = [run for run in runs.of(reproduction, data).all if _CCV in run.metrics]
            if found:
                traces.append(
                    go.Scatter(
                        x=[run.metrics[_CCV] for run in found],
                        y=[accuracy(run) for run in found],
                        text=[_describe(run) for run in found],
                        name=reproduction,
                        mode="markers",
                        marker={"color": _COLOURS[place % len(_COLOURS)], "opacity": 0.7},
                    )
                )
        if traces:
            yield Runs(run for run in runs.all if run.data == data).dataset(), traces


def _curve_groups(runs: Runs) -> Iterator[Group]:
    """Accuracy of every run over the epochs, by reproduction and data set; seeds of a cell have one line style."""
    for reproduction in sorted({run.reproduction for run in runs.all}):
        for data in runs.of(reproduction).data():
            own = runs.of(reproduction, data)
            cells = list(dict.fromkeys(_name(run) for run in own.all))
            seen: set[str] = set()
            traces = []
            for run in own.all:
                name = _name(run)
                traces.append(
                    go.Scatter(
                        x=list(run.accuracies),
                        y=[100 * value for value in run.accuracies.values()],
                        name=name,
                        legendgroup=name,
                        showlegend=name not in seen,
                        text=_describe(run),
                        mode="lines",
                        line={**_style(cells.index(name)), "width": 1},
                    )
                )
                seen.add(name)
            yield f"{reproduction}: {own.dataset()}", traces


def _draw(x: str, groups: Sequence[Group]) -> go.Figure:
    """Draw a chart whose menu shows one group of traces at a time."""
    owners = [place for place, (_, traces) in enumerate(groups) for _ in traces]
    traces = [trace.update(visible=not place) for place, (_, own) in enumerate(groups) for trace in own]
    figure = go.Figure(traces)
    buttons = [
        {"label": html.escape(name), "method": "update", "args": [{"visible": [owner == place for owner in owners]}]}
        for place, (name, _) in enumerate(groups)
    ]
    figure.update_layout(
        template="plotly_white",
        height=560,
        xaxis_title=x,
        yaxis_title="test accuracy, %",
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom"}],
    )
    return figure


def _style(place: int) -> dict[str, str]:
    """Style of a line: as many colours as can be told apart, then other dashes."""
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "dash": _DASHES[place // len(_COLOURS) % len(_DASHES)],
    }


def _name(run: RecordedRun) -> str:
    return html.escape(", ".join(str(value) for value in run.cell.values()))


def _describe(run: RecordedRun) -> str:
    cell = ", ".join(f"{key.rsplit('.')[-1]} {value}" for key, value in run.cell.items())
    return html.escape(f"{run.reproduction}: {cell}, seed {run.seed}")
