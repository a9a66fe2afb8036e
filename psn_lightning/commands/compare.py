"""``psn-train compare``: runs as a table, those that differ by their seed alone as one row."""

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
        settings: Settings that differ, shape (n_configurations, n_settings).
        in_step: Settings that divide the runs as an earlier one does → the earlier one.
        mean: Mean of each metric over the seeds, shape (n_configurations, n_metrics).
        std: Standard deviation (n - 1), same shape; NaN for one seed.
        n: Number of seeds that each mean is of, same shape.
        left_out: Runs that were found and not used: reason → number.
    """

    settings: pd.DataFrame
    in_step: dict[str, str]
    mean: pd.DataFrame
    std: pd.DataFrame
    n: pd.DataFrame
    left_out: dict[str, int]

    def cells(self) -> pd.DataFrame:
        """Texts of the table: settings that add something, ``mean ± std`` of each metric, n."""
        settings = self.settings.drop(columns=list(self.in_step))
        table = settings.apply(_shorten_column).rename(columns=short_names(settings.columns))
        most = self.n.max(axis="columns")
        for metric in self.mean:
            columns = (self.mean[metric], self.std[metric], self.n[metric], most)
            table[metric] = [_with_spread(*values) for values in zip(*columns, strict=True)]
        table["n"] = most
        return table

    def numbers(self) -> pd.DataFrame:
        """Numbers of the table: a column each for mean, standard deviation and n of each metric."""
        parts = [self.settings]
        for metric in self.mean:
            columns = {"mean": self.mean, "std": self.std, "n": self.n}
            parts.append(pd.DataFrame({f"{metric} {name}": part[metric] for name, part in columns.items()}))
        return pd.concat(parts, axis="columns")


def run(arguments: Sequence[str]) -> None:
    """Print a comparison of runs.

    Raises:
        SettingError: If no run is found, or MLflow refuses the filter.
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
    """Find the training runs of an experiment.

    Args:
        uri: MLflow store; None: the default one.
        experiment: Name of the experiment.
        wanted: Filter in MLflow's search language; None: all runs.

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
    """Group runs by configuration.

    Of several runs with one configuration and seed the newest counts: they are one measurement made again.

    Args:
        runs: Runs, newest first.
        metrics: Names of metrics; None: the usual ones that the runs have.

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
    differing = settings[[key for key in settings if settings[key].nunique() > 1]]
    repeated = settings.assign(**{_SEED: seeds}).duplicated()
    values = pd.DataFrame([{metric: run.data.metrics.get(metric) for metric in chosen} for run in finished])
    rows = settings.apply(_as_numbers).groupby(list(settings)).ngroup()[~repeated]
    groups = values[~repeated].groupby(rows)
    left_out = {"not finished": len(runs) - len(finished), "repeated": int(repeated.sum())}
    return Comparison(
        settings=differing.loc[~repeated].groupby(rows).first(),
        in_step=_in_step(differing),
        mean=groups.mean(),
        std=groups.std(),
        n=groups.count(),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _in_step(settings: pd.DataFrame) -> dict[str, str]:
    """Settings that divide the runs as an earlier one does → the earlier one."""
    first: dict[bytes, str] = {}
    divisions = {str(key): settings[key].factorize()[0].tobytes() for key in settings}
    return {key: first[division] for key, division in divisions.items() if first.setdefault(division, key) != key}


def _as_numbers(column: pd.Series) -> pd.Series:
    """A column of texts as numbers if all of them are: numbers sort otherwise than texts."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().any() else numbers


def _shorten_column(column: pd.Series) -> pd.Series:
    """Values of a setting in short if that keeps them apart: numbers rounded, classes without their module."""
    short = column.map(_shorten)
    return short if short.nunique() == column.nunique() else column


def _shorten(setting: str) -> str:
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
    """Print a row per configuration, in the width of the terminal (80 columns in a file)."""
    cells = comparison.cells()
    names = [name for name in cells if name not in (*comparison.mean, "n")]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("configuration", overflow="fold")
    for metric in (*comparison.mean, "n"):
        table.add_column(metric.replace("/", "/\n"), justify="right", no_wrap=True)
    for row in cells.to_dict("records"):
        configuration = ", ".join(f"{name} {row[name]}" for name in names if row[name] != "")
        table.add_row(configuration, *(str(row[metric]).replace(" ± ", "\n± ") for metric in (*comparison.mean, "n")))
    console = Console(highlight=False)
    console.print(table)
    for setting, earlier in comparison.in_step.items():
        console.print(f"{setting} differs as {earlier} does.")
    if comparison.left_out:
        console.print(f"Left out: {', '.join(f'{count} {reason}' for reason, count in comparison.left_out.items())}.")


def _parser() -> CommandParser:
    parser = CommandParser(prog="psn-train compare", description=__doc__)
    parser.add_argument("filter", nargs="?", help="MLflow's search language: \"tags.study = 'fashion_profiles'\"")
    parser.add_argument("--experiment", default="psn_lightning", help="MLflow experiment; default psn_lightning")
    parser.add_argument("--uri", help="MLflow store; default MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db")
    parser.add_argument("--metric", action="append", help="may be given several times; default the usual ones")
    parser.add_argument("--format", choices=["text", "csv", "markdown"], default="text", help="default text")
    return parser
