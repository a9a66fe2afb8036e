"""``psn-train compare``: table of runs with one row for each configuration, averaged over the seeds."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich import box
from rich.console import Console
from rich.table import Table

from psn_lightning.checkpoints.differences import decisive
from psn_lightning.checkpoints.flat import short_names
from psn_lightning.commands.markdown import markdown_table
from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.tracking.store import Store

_METRICS = ("test/accuracy", "val/accuracy", "sparsity/realised", "fan_in/ccv", "time/epoch_seconds")
_SEED = "seed_everything"
_PAGE = 1000
_MOST_NAMED = 3  # settings of a class differ together: dozens of them say nothing more
_WIDE = 10  # characters: longer names of metrics are broken in the heading of a table


@dataclass(frozen=True)
class Comparison:
    """Runs grouped by configuration.

    Args:
        settings: Settings in which the configurations differ, shape ``(n_configurations, n_settings)``.
        in_step: Redundant settings: each groups the runs exactly as an earlier setting does; mapped to the latter.
        mean: Mean of each metric over the seeds, shape ``(n_configurations, n_metrics)``.
        std: Standard deviation (n - 1) over the seeds, shape ``(n_configurations, n_metrics)``; NaN for one seed.
        n: Number of seeds of each mean, shape ``(n_configurations, n_metrics)``.
        left_out: Number of runs that were not used, by reason.
    """

    settings: pd.DataFrame
    in_step: dict[str, str]
    mean: pd.DataFrame
    std: pd.DataFrame
    n: pd.DataFrame
    left_out: dict[str, int]

    def cells(self) -> pd.DataFrame:
        """Table of strings: settings that are not redundant, ``mean ± std`` of each metric, and n."""
        settings = self.settings.drop(columns=list(self.in_step))
        table = settings.apply(_shorten_column).rename(columns=short_names(settings.columns))
        most = self.n.max(axis="columns")
        for metric in self.mean:
            columns = (self.mean[metric], self.std[metric], self.n[metric], most)
            table[metric] = [_format_mean(*values) for values in zip(*columns, strict=True)]
        table["n"] = most
        return table

    def numbers(self) -> pd.DataFrame:
        """Table of numbers: all settings, and a column each for mean, standard deviation and n of each metric."""
        parts = [self.settings]
        for metric in self.mean:
            columns = {"mean": self.mean, "std": self.std, "n": self.n}
            parts.append(pd.DataFrame({f"{metric} {name}": part[metric] for name, part in columns.items()}))
        return pd.concat(parts, axis="columns")


def run(arguments: Sequence[str]) -> None:
    """Print a comparison of runs.

    Args:
        arguments: Command line after ``psn-train compare``.

    Raises:
        SettingError: If no run is found, or MLflow refuses the filter.
    """
    options = _make_parser().parse_args(list(arguments))
    runs = find(options.uri, options.experiment, options.filter)
    comparison = compare(runs, options.metric)
    if options.format == "csv":
        comparison.numbers().to_csv(sys.stdout, index=False)
    elif options.format == "markdown":
        cells = comparison.cells().astype(str)
        sys.stdout.write(markdown_table(list(map(str, cells.columns)), cells.to_numpy().tolist()))
    else:
        _print_table(comparison)


def find(uri: str | None, experiment: str, wanted: str | None) -> list[Run]:
    """Find the training runs of an experiment.

    Args:
        uri: MLflow store; the default store if None.
        experiment: Name of the experiment.
        wanted: Filter in MLflow's search language; all runs if None.

    Returns:
        Runs, newest first.

    Raises:
        SettingError: If the store cannot be used, has no such experiment, or refuses the filter.
    """
    store = Store(uri)
    found = None
    if not store.is_new:
        with store.told():
            store.check()
            found = store.client.get_experiment_by_name(experiment)
            if found is not None:
                store.mark_killed([found.experiment_id])
    if found is None:
        raise SettingError(
            f"--experiment {experiment!r} is not in {store.shown}: give the tracking.experiment of psn-train fit"
        )
    condition = "tags.stage = 'fit'" + (f" AND {wanted}" if wanted else "")
    runs: list[Run] = []
    token: str | None = ""
    while token is not None:
        try:
            page = store.client.search_runs(
                [found.experiment_id], condition, max_results=_PAGE, page_token=token or None
            )
        except MlflowException as error:
            raise SettingError(f"filter {wanted!r} is refused by MLflow: {error.message}") from error
        runs += page
        token = page.token or None
    return runs


def compare(runs: Sequence[Run], metrics: Sequence[str] | None = None) -> Comparison:
    """Group runs by configuration.

    Runs with equal configuration and seed are repetitions of one measurement; the newest one counts.

    Args:
        runs: Runs, newest first.
        metrics: Names of metrics; the standard metrics that the runs have if None.

    Raises:
        SettingError: If no run has finished, or no run has one of the metrics.
    """
    finished = [run for run in runs if run.info.status == "FINISHED" and run.data.params]
    if not finished:
        raise SettingError(f"none of {len(runs)} runs has finished: give another filter, or wait for the runs")
    settings = pd.DataFrame([{_SEED: "", **decisive(run.data.params), **_get_ticket(run)} for run in finished])
    settings = settings.fillna("")
    seeds = settings.pop(_SEED)
    known = {key for run in finished for key in run.data.metrics}
    chosen = list(metrics) if metrics else [metric for metric in _METRICS if metric in known]
    unknown = sorted(set(chosen) - known)
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], known, 3, cutoff=0.3) or sorted(known)[:3]
        raise SettingError(
            f"--metric {unknown[0]} is not in any finished run; the metrics of the runs include {', '.join(nearest)}"
        )
    differing = settings[[key for key in settings if settings[key].nunique() > 1]]
    repeated = settings.assign(**{_SEED: seeds}).duplicated()
    values = pd.DataFrame([{metric: run.data.metrics.get(metric) for metric in chosen} for run in finished])
    rows = settings.apply(_convert_to_numbers).groupby(list(settings)).ngroup()[~repeated]
    groups = values[~repeated].groupby(rows)
    left_out = {"not finished": len(runs) - len(finished), "repeated": int(repeated.sum())}
    return Comparison(
        settings=differing.loc[~repeated].groupby(rows).first(),
        in_step=_find_redundant(differing),
        mean=groups.mean(),
        std=groups.std(),
        n=groups.count(),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _get_ticket(run: Run) -> dict[str, str]:
    """Lottery ticket that a run has trained: its configuration is that of the dense network."""
    return {"ticket": run.data.tags["ticket"]} if "ticket" in run.data.tags else {}


def _find_redundant(settings: pd.DataFrame) -> dict[str, str]:
    """Find the settings that group the runs exactly as an earlier setting does, and map each to the latter.

    A number with more than two values is not redundant: in a search every configuration has values of its own.
    """
    first: dict[bytes, str] = {}
    divisions = {str(key): settings[key].factorize()[0].tobytes() for key in settings}
    numbers = {key for key in divisions if pd.to_numeric(settings[key], errors="coerce").nunique() > 2}
    return {
        key: first[division]
        for key, division in divisions.items()
        if first.setdefault(division, key) != key and key not in numbers
    }


def _convert_to_numbers(column: pd.Series) -> pd.Series:
    """Convert a column of strings to numbers if all are numbers, so that rows are sorted by value."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().any() else numbers


def _shorten_column(column: pd.Series) -> pd.Series:
    """Shorten the values of a setting (numbers rounded, classes without module) unless two would become equal."""
    short = column.map(_shorten)
    return short if short.nunique() == column.nunique() else column


def _shorten(setting: str) -> str:
    """Round a number, and remove the module of a class of this package."""
    try:
        return f"{float(setting):.4g}"
    except ValueError:
        return setting.rsplit(".", 1)[-1] if setting.startswith("psn_lightning.") else setting


def _format_mean(mean: float, std: float, n: int, most: int) -> str:
    """Format ``mean ± std``, with n if the metric has fewer seeds than another metric of the row."""
    if n == 0:
        return ""
    fewer = f" (n={n})" if n < most else ""
    return f"{mean:.4f}{fewer}" if n == 1 else f"{mean:.4f} ± {std:.4f}{fewer}"


def _break_lines(cell: str) -> str:
    """Put the standard deviation and n of a cell below its mean."""
    return cell.replace(" ± ", "\n± ").replace(" (", "\n(")


def _print_table(comparison: Comparison) -> None:
    """Print a row for each configuration, in the width of the terminal (80 columns in a file)."""
    cells = comparison.cells()
    names = [name for name in cells if name not in (*comparison.mean, "n")]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("configuration", overflow="fold", min_width=len("configuration"))
    for metric in (*comparison.mean, "n"):
        lines = [line if len(line) <= _WIDE else line.replace("_", "_\n") for line in metric.split("/")]
        table.add_column("/\n".join(lines), justify="right", no_wrap=True)
    for row in cells.to_dict("records"):
        configuration = ", ".join(f"{name} {row[name]}" for name in names if row[name] != "")
        table.add_row(configuration, *(_break_lines(str(row[metric])) for metric in (*comparison.mean, "n")))
    console = Console(highlight=False)
    console.print(table)
    for earlier in dict.fromkeys(comparison.in_step.values()):
        settings = [setting for setting, other in comparison.in_step.items() if other == earlier]
        shown, others = settings[:_MOST_NAMED], len(settings[_MOST_NAMED:])
        more = f" and {others} more" if others else ""
        console.print(f"{', '.join(shown)}{more} {'differ' if settings[1:] else 'differs'} as {earlier} does.")
    if comparison.left_out:
        console.print(f"Left out: {', '.join(f'{count} {reason}' for reason, count in comparison.left_out.items())}.")


def _make_parser() -> CommandParser:
    parser = CommandParser(prog="psn-train compare", description=__doc__)
    parser.add_argument(
        "filter", nargs="?", help="filter in MLflow's search language: \"tags.study = 'fashion_profiles'\""
    )
    parser.add_argument("--experiment", default="psn_lightning", help="MLflow experiment; default: psn_lightning")
    parser.add_argument("--uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or sqlite:///mlruns/mlflow.db")
    parser.add_argument(
        "--metric", action="append", help="metric; repeat the option for several; default: the standard metrics"
    )
    parser.add_argument(
        "--format", choices=["text", "csv", "markdown"], default="text", help="output format; default: text"
    )
    return parser
