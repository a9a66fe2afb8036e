"""``psn-train compare``: runs as a table, those that differ by their seed alone as one row."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich.console import Console
from rich.table import Table

from psn_lightning.checkpoints.flat import short_names
from psn_lightning.checkpoints.origin import decisive
from psn_lightning.commands.markdown import markdown_table
from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.tracking.store import Store

_METRICS = ("test/accuracy", "val/accuracy", "sparsity/realised", "fan_in/ccv", "time/epoch_seconds")
_SEED = "seed_everything"
_PAGE = 1000


@dataclass(frozen=True)
class Comparison:
    """Runs by configuration.

    Args:
        settings: One row per configuration, columns are the settings that differ.
        mean: Mean of each metric over the seeds, rows alike.
        std: Standard deviation (n - 1); NaN for one seed.
        n: Number of seeds that each mean is of.
        left_out: Runs that were found and not used, in words.
    """

    settings: pd.DataFrame
    mean: pd.DataFrame
    std: pd.DataFrame
    n: pd.DataFrame
    left_out: str

    def cells(self) -> pd.DataFrame:
        """The table as it is read: settings, ``mean ± std`` and n."""
        table = self.settings.apply(_readable).rename(columns=short_names(self.settings.columns))
        most = self.n.max(axis="columns")
        for metric in self.mean:
            columns = (self.mean[metric], self.std[metric], self.n[metric], most)
            table[metric] = [_with_spread(*values) for values in zip(*columns, strict=True)]
        table["n"] = most
        return table

    def numbers(self) -> pd.DataFrame:
        """The table for a program: a column each for mean, standard deviation and n."""
        parts = [self.settings]
        for metric in self.mean:
            columns = {"mean": self.mean, "std": self.std, "n": self.n}
            parts.append(pd.DataFrame({f"{metric} {name}": part[metric] for name, part in columns.items()}))
        return pd.concat(parts, axis="columns")


def run(arguments: Sequence[str]) -> None:
    """Print the comparison that is asked for.

    Raises:
        SettingError: If nothing is found, or the filter is not understood.
    """
    options = _parser().parse_args(list(arguments))
    runs = find(options.uri, options.experiment, options.filter)
    comparison = compare(runs, options.metric)
    if options.format == "csv":
        comparison.numbers().to_csv(sys.stdout, index=False)
    elif options.format == "markdown":
        cells = comparison.cells().astype(str)
        sys.stdout.write(markdown_table(list(map(str, cells.columns)), cells.to_numpy().tolist()))
    else:
        _show(comparison)


def find(uri: str | None, experiment: str, wanted: str | None) -> list[Run]:
    """The training runs of an experiment that a filter admits.

    Args:
        uri: MLflow store; None: the default one.
        experiment: Name.
        wanted: Filter in MLflow's language; None: all.

    Raises:
        SettingError: If the store cannot be used, has no such experiment, or does not understand the filter.
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
            f"--experiment {experiment!r} is not in {store.shown}: see psn-train fit, tracking.experiment"
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
            raise SettingError(f"filter {wanted!r}: {error.message}") from error
        runs += page
        token = page.token or None
    return runs


def compare(runs: Sequence[Run], metrics: Sequence[str] | None = None) -> Comparison:
    """Put runs of one configuration together.

    Of several runs with one configuration and seed the newest counts: they are one measurement made again.

    Args:
        runs: Newest first.
        metrics: Which; None: the usual ones that there are.

    Raises:
        SettingError: If no run has finished, or none has a metric that was asked for.
    """
    finished = [run for run in runs if run.info.status == "FINISHED" and run.data.params]
    if not finished:
        raise SettingError(f"none of {len(runs)} runs has finished: give another filter, or wait")
    settings = pd.DataFrame([{_SEED: "", **decisive(run.data.params)} for run in finished])
    settings = settings.fillna("")
    seeds = settings.pop(_SEED)
    known = {key for run in finished for key in run.data.metrics}
    chosen = list(metrics) if metrics else [metric for metric in _METRICS if metric in known]
    unknown = sorted(set(chosen) - known)
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], known, 3, cutoff=0.3) or sorted(known)[:3]
        raise SettingError(f"--metric {unknown[0]}: no run has it; there are {', '.join(nearest)} and others")
    differing = [key for key in settings if settings[key].nunique() > 1]
    repeated = settings.assign(**{_SEED: seeds}).duplicated()
    values = pd.DataFrame([{metric: run.data.metrics.get(metric) for metric in chosen} for run in finished])
    rows = settings.apply(_as_numbers).groupby(list(settings)).ngroup()[~repeated]
    groups = values[~repeated].groupby(rows)
    left_out = {"not finished": len(runs) - len(finished), "repeated": int(repeated.sum())}
    return Comparison(
        settings=settings[differing].loc[~repeated].groupby(rows).first(),
        mean=groups.mean(),
        std=groups.std(),
        n=groups.count(),
        left_out=", ".join(f"{count} {what}" for what, count in left_out.items() if count),
    )


def _as_numbers(column: pd.Series) -> pd.Series:
    """Parameters are text; where all are numbers they sort as such."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().any() else numbers


def _readable(column: pd.Series) -> pd.Series:
    """Settings in short, as far as that keeps them apart: numbers rounded, classes without their module."""
    short = column.map(_in_short)
    return short if short.nunique() == column.nunique() else column


def _in_short(setting: str) -> str:
    try:
        return f"{float(setting):.4g}"
    except ValueError:
        return setting.rsplit(".", 1)[-1] if setting.startswith("psn_lightning.") else setting


def _with_spread(mean: float, std: float, n: int, most: int) -> str:
    if n == 0:
        return ""
    fewer = f" (n={n})" if n < most else ""
    return f"{mean:.4f}{fewer}" if n == 1 else f"{mean:.4f} ± {std:.4f}{fewer}"


def _show(comparison: Comparison) -> None:
    cells = comparison.cells()
    table = Table(*map(str, cells.columns))
    for row in cells.itertuples(index=False):
        table.add_row(*map(str, row))
    console = Console()
    if not console.is_terminal:
        console.width = console.measure(
            table, options=console.options.update(width=10_000)
        ).maximum  # a file is as wide as its lines
    console.print(table)
    if comparison.left_out:
        console.print(f"Left out: {comparison.left_out}.", highlight=False)


def _parser() -> CommandParser:
    parser = CommandParser(prog="psn-train compare", description=__doc__)
    parser.add_argument("filter", nargs="?", help="MLflow's search language: \"tags.study = 'fashion_profiles'\"")
    parser.add_argument("--experiment", default="psn_lightning", help="MLflow experiment; default psn_lightning")
    parser.add_argument("--uri", help="MLflow store; default MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db")
    parser.add_argument("--metric", action="append", help="may be given several times; default the usual ones")
    parser.add_argument("--format", choices=["text", "csv", "markdown"], default="text", help="default text")
    return parser
