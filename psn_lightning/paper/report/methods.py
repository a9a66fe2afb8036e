"""Comparison of methods under one protocol: ranked accuracies with tests, and the networks and costs behind them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report import published
from psn_lightning.paper.report.contrasts import Contrast, holm
from psn_lightning.paper.report.runs import Measure, Runs, best_accuracy, last_accuracy, late_accuracy
from psn_lightning.paper.report.tables import LEVEL, NOTHING, Table
from psn_lightning.paper.report.verdicts import difference, interval, number, p_value

EXPERIMENT, SPARSITY, METHOD = "methods", "model.sparsity", "method"
"""Reproduction of the comparison, and the settings of its cells."""

DENSE = "dense"
"""Method without a sparsity, which is run once and stands beside every other."""

BASELINES = ("rigl", "static random")
"""Methods that all others are compared with."""


def sparsities(runs: Runs) -> list[float]:
    """List the sparsities at which a sparse method was run, in ascending order."""
    return sorted({run.cell[SPARSITY] for run in runs.all if run.cell[METHOD] != DENSE})


def at_sparsity(runs: Runs, sparsity: float) -> Runs:
    """Select the runs of a sparsity, and those of the dense network.

    Args:
        runs: Runs of the comparison on one data set.
        sparsity: Sparsity of the cells.
    """
    return Runs(run for run in runs.all if run.cell[METHOD] == DENSE or run.cell[SPARSITY] == sparsity)


def of_method(runs: Runs, method: str) -> list[RecordedRun]:
    """Select the runs of a method."""
    return runs.having({METHOD: method}).all


def mean(runs: Runs, method: str, measure: Measure = late_accuracy) -> float:
    """Mean of a measure over the runs of a method."""
    return statistics.fmean(map(measure, of_method(runs, method)))


def ranking(runs: Runs) -> list[str]:
    """List the methods, the most accurate first.

    Args:
        runs: Runs of one sparsity.
    """
    return sorted(runs.values(METHOD), key=lambda method: -mean(runs, method))


def method_tables(runs: Runs) -> Iterator[Table]:
    """Make the tables of all data sets and sparsities: accuracies, and the networks with their costs.

    Args:
        runs: Recorded runs.
    """
    for data in runs.of(EXPERIMENT).data():
        own = runs.of(EXPERIMENT, data)
        for sparsity in sparsities(own):
            cells = at_sparsity(own, sparsity)
            yield _rank_methods(cells, f"Methods at {sparsity:.0%}: {own.dataset()}")
            yield _describe_networks(cells, f"Networks and costs at {sparsity:.0%}: {own.dataset()}")


def as_published_table(runs: Runs) -> Table:
    """Make the table of the methods that were run with the networks and recipes of their own papers.

    Args:
        runs: Runs of ``methods-as-published``.
    """
    rows = []
    for method in runs.values(METHOD):
        own = [100 - late_accuracy(run) for run in of_method(runs, method)]
        best = statistics.fmean(100 - best_accuracy(run) for run in of_method(runs, method))
        is_best = method in published.BEST_METHOD_ERRORS
        printed = (published.BEST_METHOD_ERRORS if is_best else published.METHOD_ERRORS).get(method)
        rows.append(
            [
                method,
                f"{number(statistics.fmean(own))} ({len(own)})",
                _interval_of_mean(runs, method, turned=True),
                number(best),
                NOTHING if printed is None else f"{printed:g}{', best' if is_best else ''}",
                NOTHING
                if printed is None
                else number((best if is_best else statistics.fmean(own)) - printed, sign=True),
            ]
        )
    note = (
        'Test error in per cent, mean over the last three epochs; "best" compares the best epoch, as its paper does. '
        "conf/reproduce/methods-as-published.yaml has the recipes."
    )
    columns = ["method", "error (n)", "95%", "best epoch", "printed", "ours − printed"]
    return Table(f"As published: {runs.dataset()}", note, columns, rows)


def _rank_methods(runs: Runs, title: str) -> Table:
    """Accuracies of one sparsity, the best first, with differences to the baselines."""
    layout = runs.layout(METHOD, late_accuracy, pooled=False)  # paired: some methods vary much more than others
    contrasts = {name: layout.against(name) if name in layout.cells else {} for name in BASELINES}
    corrected = {name: _correct(found) for name, found in contrasts.items()}
    rows, place = [], 0
    for method in ranking(runs):
        place += method != DENSE
        others = []
        for name in BASELINES:
            contrast = contrasts[name].get(method)
            others += [NOTHING] * 2 if contrast is None else [difference(contrast, LEVEL), corrected[name][method]]
        rows.append(
            [
                NOTHING if method == DENSE else str(place),
                method,
                f"{number(mean(runs, method))} ({len(of_method(runs, method))})",
                _interval_of_mean(runs, method),
                *(number(mean(runs, method, measure)) for measure in (last_accuracy, best_accuracy)),
                *others,
            ]
        )
    columns = ["rank", "method", "accuracy, % (n)", "95%", "last epoch", "best epoch"]
    for name in BASELINES:
        columns += [f"− {name}", "p (Holm)"]
    return Table(title, "", columns, rows)


def _correct(contrasts: dict[str, Contrast]) -> dict[str, str]:
    corrected = holm([contrast.p_not_zero() for contrast in contrasts.values()])
    return {method: p_value(p) for method, p in zip(contrasts, corrected, strict=True)}


def _interval_of_mean(runs: Runs, method: str, turned: bool = False) -> str:
    """Interval of a method's mean accuracy, or error if it is turned, from the noise of its own runs."""
    found = runs.having({METHOD: method}).layout(METHOD, late_accuracy).mean(method)
    if found is None:
        return NOTHING
    low, high = found.interval(LEVEL)
    return interval(100 - high, 100 - low) if turned else interval(low, high)


def _describe_networks(runs: Runs, title: str) -> Table:
    """Masks at the end, density during training, and costs; means over the seeds, of the layers in order."""
    rows = []
    for method in ranking(runs):
        own = of_method(runs, method)
        rows.append(
            [
                method,
                number(statistics.fmean(run.metrics["cost/density"] for run in own), 3),
                _by_layer(own, "sparsity/realised/", 3, complement=True),
                _by_layer(own, "fan_in/ccv/"),
                _by_layer(own, "fan_out/ccv/"),
                _by_layer(own, "topology/dead_neurons/", 0),
                _by_layer(own, "topology/dead_inputs/", 0),
                number(statistics.fmean(run.metrics["gradient/ratio"] for run in own)),
                number(statistics.fmean(run.metrics["cost/flops"] for run in own) / 1e12),
                number(statistics.fmean(run.seconds for run in own) / 60, 1),
            ]
        )
    columns = ["method", "density in training", "density at the end", "fan-in CCV", "fan-out CCV", "dead neurons"]
    columns += ["dead inputs", "gradient ratio", "TFLOP", "minutes"]
    return Table(title, "", columns, rows)


def _by_layer(runs: list[RecordedRun], prefix: str, digits: int = 2, complement: bool = False) -> str:
    """Format the means of a metric by layer: ``0.95 / 0.40``."""
    names = [name for name in runs[0].metrics if name.startswith(prefix)]
    values = [statistics.fmean(run.metrics[name] for run in runs) for name in names]
    return " / ".join(number(1 - value if complement else value, digits) for value in values)
