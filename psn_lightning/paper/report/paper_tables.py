"""Tables and figures of the paper as tables, compared with the record of runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report import published
from psn_lightning.paper.report.runs import Measure, Runs, accuracy, best_accuracy, metric
from psn_lightning.paper.report.start_tables import starts_table
from psn_lightning.paper.report.tables import NOTHING, Table, accuracies, mean_of
from psn_lightning.paper.report.verdicts import number
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound

PEAKS, SHARPNESS = "model.topology.init_args.peaks", "model.topology.init_args.sharpness"
"""Settings of the cells of the multi-peak grid."""


def paper_tables(runs: Runs) -> Iterator[Table]:
    """Make the tables of the paper; tables without runs are left out.

    Args:
        runs: Recorded runs.
    """
    for reproduction, scale in (("static-linear", "nn.Linear's scale"), ("static", "Eq. 9's scale")):
        for data in runs.of(reproduction).data():
            own = runs.of(reproduction, data)
            title = f"Table 6, static at 90%, {scale}: {own.dataset()}"
            yield accuracies(title, own, "profile", "random", published.STATIC[data])
    yield from _make_scale_table(runs.of("init-scale"))
    if spreading := runs.of("spreading"):
        title = f"Spreading, exponential profile at 90%: {spreading.dataset()}"
        printed = {"even": published.SPREADING, "sequential": published.SEQUENTIAL}
        yield accuracies(title, spreading, "model.spreading", "even", printed)
    yield from _make_sparsity_tables(runs.of("mnist-sparsity"))
    yield from _make_multipeak_table(runs.of("multipeak"))
    yield from _make_gradient_table(runs.of("gradient"))
    yield from _make_equilibrium_tables(runs.of("equilibrium"))
    for reproduction in ("fashion-10-seeds", "advantage"):
        for data in runs.of(reproduction).data():
            own = runs.of(reproduction, data)
            title = f"RigL as written, lognormal at the equilibrium against ERK, 90%: {own.dataset()}"
            yield accuracies(title, own, "start", "erk", {})
    if starts := runs.of("starts"):
        yield starts_table(starts)
    yield from _make_start_tables(runs.of("rigl-init"))
    if grid := runs.of("architecture"):
        yield accuracies(f"Widths and depths, dense: {grid.dataset()}", grid, "model.hidden", "[512, 512]", {})


def _make_scale_table(runs: Runs) -> Iterator[Table]:
    """Accuracy of static networks under both scales of the first weights, beside the paper's."""
    if not runs:
        return
    scales = runs.values("scale")
    rows = []
    for data in runs.data():
        own = runs.of("init-scale", data)
        for profile in own.values("profile"):
            cells = [own.having({"profile": profile, "scale": scale}) for scale in scales]
            printed = published.STATIC[data].get(profile)
            tail_and_best = [mean_of(cell, measure) for measure in (accuracy, best_accuracy) for cell in cells]
            rows.append([own.dataset(), profile, *tail_and_best, NOTHING if printed is None else number(printed)])
    names = [f"{scale}, {estimator}" for estimator in ("last third", "best epoch") for scale in scales]
    note = "Static networks at 90%. Accuracy, %: mean ± standard deviation (n)."
    yield Table("Scale of the first weights", note, ["data", "profile", *names, "paper"], rows)


def _make_sparsity_tables(runs: Runs) -> Iterator[Table]:
    """Accuracy by sparsity and profile; a table for each spreading."""
    for spreading, own in by_spreading(runs).items():
        profiles = own.values("profile")
        rows = []
        for sparsity in sorted(own.values("sparsity"), key=lambda s: float(published.as_printed(s))):
            printed = published.MNIST_SPARSITY[published.as_printed(sparsity)]
            row = [sparsity]
            for profile in profiles:
                beside = f"; {number(printed[profile])}" if profile in printed else ""
                row.append(mean_of(own.having({"sparsity": sparsity, "profile": profile})) + beside)
            rows.append(row)
        note = (
            "Accuracy, %: ours ± standard deviation (n); the paper's. 99.9% is above Eq. 7's ceiling of 99.872%: it is "
            "reached by the clamp of Eq. 6 (clamped), or 99.87% is run instead (ceiling)."
        )
        yield Table(f"MNIST by sparsity, {spreading} spreading", note, ["sparsity, %", *profiles], rows)


def by_spreading(runs: Runs) -> dict[str, Runs]:
    """Group runs by the spreading of their cells; random if the cells do not name one."""
    groups: dict[str, list[RecordedRun]] = {}
    for run in runs.all:
        groups.setdefault(str(run.cell.get("model.spreading", "random")), []).append(run)
    return {spreading: Runs(group) for spreading, group in groups.items()}


def _make_multipeak_table(runs: Runs) -> Iterator[Table]:
    """Accuracy and fan-in CCV by number of peaks and sharpness."""
    if not runs:
        return
    columns = sorted(runs.values(SHARPNESS), reverse=True)
    rows = []
    for peaks in sorted(runs.values(PEAKS)):
        cells = [runs.having({PEAKS: peaks, SHARPNESS: kappa}) for kappa in columns]
        rows.append([str(peaks), *(f"{mean_of(c)}; {_format_first(c, metric('fan_in/ccv'))}" for c in cells)])
    note = "Accuracy, %: mean ± standard deviation (n); fan-in CCV."
    names = [f"κ = {kappa:g}" for kappa in columns]
    yield Table(f"Figure 2, multi-peak profiles: {runs.dataset()}", note, ["peaks", *names], rows)


def _format_first(runs: Runs, measure: Measure) -> str:
    """Format the measure of the first run, for a measure that is equal for all seeds."""
    return number(measure(runs.all[0])) if runs else NOTHING


def _make_gradient_table(runs: Runs) -> Iterator[Table]:
    """Gradient ratio and fan-in CCV by profile."""
    if not runs:
        return
    rows = []
    for profile in runs.values("profile"):
        own = runs.having({"profile": profile})
        measures = (metric("fan_in/ccv"), metric("gradient/ratio"), active_ratio)
        rows.append([profile, *(mean_of(own, measure) for measure in measures), mean_of(own)])
    columns = ["profile", "fan-in CCV", "gradient ratio", "of active connections", "accuracy, %"]
    yield Table(f"Gradient ratio at 90%: {runs.dataset()}", "", columns, rows)


def active_ratio(run: RecordedRun) -> float:
    """Gradient ratio of a run over active connections only, mean over the layers."""
    return statistics.fmean(v for name, v in run.metrics.items() if name.startswith("gradient/ratio_active/"))


def _make_equilibrium_tables(runs: Runs) -> Iterator[Table]:
    """Final fan-in CCV by sparsity and start; a table for each data set."""
    starts = {"erk": "ERK", "lognormal": "lognormal 1.0"}
    for data in runs.data():
        own = runs.of("equilibrium", data)
        layers = ccv_metrics(own)
        rows = []
        for sparsity in sorted(own.values("model.sparsity")):
            cells = [own.having({"model.sparsity": sparsity, "start": start}) for start in starts]
            measured = [mean_of(cell, metric(name)) for cell in cells for name in layers]
            bound = number(two_level_bound(sparsity))
            rows.append([f"{sparsity:.0%}", number(PAPER_TABLE_4[data][sparsity]), bound, *measured])
        names = [f"from {start}: {_name_layer(name)}" for start in starts.values() for name in layers]
        note = "CCV after the last epoch: mean over the layers, and of each; ± standard deviation (n)."
        title = f"Table 4, fan-in CCV where RigL ends: {own.dataset()}"
        yield Table(title, note, ["sparsity", "paper", "two-level bound", *names], rows)


def ccv_metrics(runs: Runs) -> list[str]:
    """List the metrics of the fan-in CCV: mean over the layers, and each layer."""
    return sorted(name for name in runs.all[0].metrics if name.startswith("fan_in/ccv"))


def _name_layer(name: str) -> str:
    """Name of the layer of a metric; ``CCV`` for the mean over the layers."""
    return name.removeprefix("fan_in/ccv").strip("/") or "CCV"


def choices(runs: Runs) -> Table:
    """Make the table of the final CCV of variants of RigL.

    Args:
        runs: Runs of one reproduction of variants and one data set.
    """
    layers = ccv_metrics(runs)
    dead = [name.replace("fan_in/ccv", "topology/dead_neurons") for name in layers[1:]]
    cells = {json.dumps(run.cell): run.cell for run in runs.all}
    rows = []
    for cell in cells.values():
        own = runs.having(cell)
        printed = PAPER_TABLE_4[own.all[0].data].get(cell.get("model.sparsity", 0.9))
        rows.append(
            [
                *(f"{value:.0%}" if isinstance(value, float) else str(value) for value in cell.values()),
                NOTHING if printed is None else number(printed),
                *(mean_of(own, metric(name)) for name in layers),
                *(mean_of(own, metric(name), 0) for name in dead),
                mean_of(own),
            ]
        )
    keys = [key.rsplit(".", 1)[-1] for key in runs.all[0].cell]
    names = [*map(_name_layer, layers), *(f"dead in {_name_layer(name)}" for name in layers[1:])]
    title = f"{_VARIANT_TITLES[runs.all[0].reproduction]}: {runs.dataset()}"
    return Table(title, "", [*keys, "paper", *names, "accuracy, %"], rows)


_VARIANT_TITLES = {
    "equilibrium-variants": "RigL's choices one at a time, and the CCV of Table 4",
    "equilibrium-combinations": "Choices together, and the CCV of Table 4",
}


def _make_start_tables(runs: Runs) -> Iterator[Table]:
    """Accuracy of RigL by start; a table for each data set and sparsity."""
    for data in runs.data():
        own = runs.of("rigl-init", data)
        for sparsity in sorted(own.values("model.sparsity")):
            printed = {"erk": published.FOREST_ERK} if (data, sparsity) == ("forest", 0.9) else {}
            title = f"Figure 3, RigL's starts at {sparsity:.0%}: {own.dataset()}"
            yield accuracies(title, own.having({"model.sparsity": sparsity}), "start", "erk", printed)
